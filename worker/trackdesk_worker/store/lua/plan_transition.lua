-- An operator's word on a plan: start, pause, resume, cancel.
-- KEYS  1 prefix
-- ARGV  1 now | 2 plan | 3 word | 4 number of jobs the operator confirms, '' if none is asked for
--       5 beginning of the entry in each job's history (JSON without its end), for start
--       6 entry for the audit log
-- Reply 'ok' | 'unknown' | 'refused:<state>' | 'count:<number of jobs>'

local id, word = ARGV[2], ARGV[3]
local plan, sums = key('plan', id), key('plan_sums', id)
local state = redis.call('HGET', plan, 'state')
if not state then
  return 'unknown'
end
local FROM = {
  start = { ready = 'running' }, pause = { running = 'paused' }, resume = { paused = 'running' },
  cancel = { listing = 'cancelled', ready = 'cancelled', running = 'cancelled', paused = 'cancelled' },
}
local next_state = FROM[word][state]
if not next_state then
  return 'refused:' .. state
end
local listed = redis.call('HGET', sums, 'listed') or '0'
if ARGV[4] ~= '' and ARGV[4] ~= listed then
  return 'count:' .. listed
end
redis.call('HSET', plan, 'state', next_state)
if word == 'start' then
  redis.call('HSET', plan, 'started_ms', integer(NOW_MS), 'note', ARGV[5])
elseif word == 'resume' then
  redis.call('HDEL', plan, 'problem')
elseif word == 'cancel' then
  local left = 0
  for _, tenant in ipairs(redis.call('SMEMBERS', key('plan_tenants', id))) do
    left = left + redis.call('LLEN', key('plan_items', id .. ':pending:' .. tenant))
  end
  if left > 0 then
    redis.call('HSET', sums, 'verdict/cancelled', integer(left))
  end
  redis.call('HSET', plan, 'ended_ms', integer(NOW_MS))
  redis.call('HDEL', plan, 'search')
  redis.call('DEL', key('plan_items', id .. ':named'))
  redis.call('ZREM', key('plans_open'), id)
end
redis.call('RPUSH', key('audit_log_waiting'), ARGV[6])
return 'ok'
