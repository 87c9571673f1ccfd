-- Note that a worker is alive, and forget those long silent. A script, because a full Redis refuses the plain command.
-- KEYS  1 prefix
-- ARGV  1 now | 2 worker | 3 silence after which a worker is forgotten (ms)
-- Reply 1

redis.call('ZREMRANGEBYSCORE', key('workers'), '(' .. integer(NOW_MS), '+inf') -- by a clock that was ahead
redis.call('ZADD', key('workers'), integer(NOW_MS), ARGV[2])
redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', integer(NOW_MS - tonumber(ARGV[3])))
return 1
