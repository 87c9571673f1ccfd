-- Open a plan: which jobs, who asked for it and why. plan_list makes its list, step by step.
-- KEYS  1 prefix
-- ARGV  1 now | 2 id | 3 open plans at most | 4 entry for the audit log (JSON) | 5 number of field words
--       then field, value, … | then ids, for a plan of jobs named one by one
-- Reply 'ok' | 'full'

local id, words = ARGV[2], tonumber(ARGV[5])
if redis.call('ZCARD', key('plans_open')) >= tonumber(ARGV[3]) then
  return 'full'
end
local plan = key('plan', id)
redis.call('HSET', plan, 'state', 'listing', 'created_ms', integer(NOW_MS), 'cursor', '')
for i = 6, 5 + words, 2 do
  redis.call('HSET', plan, ARGV[i], ARGV[i + 1])
end
for i = 6 + words, #ARGV do
  redis.call('RPUSH', key('plan_items', id .. ':named'), ARGV[i])
end
redis.call('ZADD', key('plans'), integer(NOW_MS), id)
redis.call('ZADD', key('plans_open'), integer(NOW_MS), id)
redis.call('RPUSH', key('audit_log_waiting'), ARGV[4])
return 'ok'
