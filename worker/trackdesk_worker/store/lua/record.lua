-- Add to the operators' log. A script only so that it is also kept when Redis is full.
-- KEYS  1 prefix
-- ARGV  1 now | 2 entry (JSON)
-- Reply number of entries

return redis.call('RPUSH', key('operations'), ARGV[2])
