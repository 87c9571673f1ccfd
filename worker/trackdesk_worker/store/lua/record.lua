-- Add to the operators' log: only behind the entry the new one was chained to, so that no two follow the same one.
-- Also kept when Redis is full.
-- KEYS  1 prefix
-- ARGV  1 now | 2 entry (JSON) | 3 the last entry as the caller saw it ('' for none) | 4 new head: number and hash
-- Reply 1, or 0: somebody else was quicker, chain again

if (redis.call('LINDEX', key('operations'), -1) or '') ~= ARGV[3] then
  return 0
end
redis.call('RPUSH', key('operations'), ARGV[2])
redis.call('SET', key('operations_head'), ARGV[4])
return 1
