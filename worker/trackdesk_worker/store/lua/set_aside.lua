-- Take an act that cannot be put on record out of the others' way, and keep it as it is.
-- KEYS  1 prefix
-- ARGV  1 now | 2 the act, as it waits first in audit_log_waiting
-- Reply 1; 0: another act is first by now, and nothing changed

if redis.call('LINDEX', key('audit_log_waiting'), 0) ~= ARGV[2] then
  return 0
end
redis.call('RPUSH', key('audit_log_unreadable'), ARGV[2])
redis.call('LPOP', key('audit_log_waiting'))
return 1
