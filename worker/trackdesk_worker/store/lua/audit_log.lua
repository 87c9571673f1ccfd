-- Add to the audit log: only behind the entry the new one was chained to, so that no two follow the same one.
-- Also kept when Redis is full.
-- KEYS  1 prefix
-- ARGV  1 now | 2 entry (JSON) | 3 the last entry as the caller saw it ('' for none) | 4 new head: number and hash
--       5 the act that waited for its entry, as it is first in audit_log_waiting ('' if none waited)
-- Reply 1; 0: another writer was first, chain again; 2: another writer has recorded that act

if ARGV[5] ~= '' and redis.call('LINDEX', key('audit_log_waiting'), 0) ~= ARGV[5] then
  return 2
end
if (redis.call('LINDEX', key('audit_log'), -1) or '') ~= ARGV[3] then
  return 0
end
redis.call('RPUSH', key('audit_log'), ARGV[2])
redis.call('SET', key('audit_log_head'), ARGV[4])
if ARGV[5] ~= '' then
  redis.call('LPOP', key('audit_log_waiting'))
end
return 1
