-- Note that a worker is alive. A script, because a full Redis refuses the plain command, and maintenance with it.
-- KEYS  1 prefix
-- ARGV  1 now | 2 worker
-- Reply 1

redis.call('ZADD', key('workers'), integer(NOW_MS), ARGV[2])
return 1
