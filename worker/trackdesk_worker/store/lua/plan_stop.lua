-- Stop a plan that cannot go on: one that is being listed fails for good, a running one is paused. The reason stays
-- with it. One whose keys are of another type is set aside as it is: nothing drives or lists it any more.
-- KEYS  1 prefix
-- ARGV  1 now | 2 plan | 3 its state as the caller saw it | 4 the reason, in words
-- Reply the state it has now, 'unreadable' if it was set aside; '' if it was in another than the caller saw, and nothing changed

local id, state = ARGV[2], ARGV[3]
local plan = key('plan', id)
local function is(kind, stored_at)
  local found = redis.call('TYPE', stored_at).ok
  return found == kind or found == 'none'
end

if not (is('hash', plan) and is('hash', key('plan_sums', id)) and is('set', key('plan_tenants', id))) then
  redis.call('ZREM', key('plans_open'), id)
  redis.call('ZREM', key('plans'), id)
  redis.call('SADD', key('plans_unreadable'), id)
  return 'unreadable'
end
local next_state = ({ listing = 'failed', running = 'paused' })[state]
if not next_state or redis.call('HGET', plan, 'state') ~= state then
  return ''
end
redis.call('HSET', plan, 'state', next_state, 'problem', ARGV[4])
if next_state == 'failed' then
  local left = 0
  for _, tenant in ipairs(redis.call('SMEMBERS', key('plan_tenants', id))) do
    left = left + redis.call('LLEN', key('plan_items', id .. ':pending:' .. tenant))
  end
  if left > 0 then
    redis.call('HSET', key('plan_sums', id), 'verdict/cancelled', integer(left))
  end
  redis.call('HSET', plan, 'ended_ms', integer(NOW_MS))
  redis.call('HDEL', plan, 'search')
  redis.call('DEL', key('plan_items', id .. ':named'))
  redis.call('ZREM', key('plans_open'), id)
  redis.call('RPUSH', key('audit_log_waiting'), '{"plan_ended":"' .. id .. '"}')
end
return next_state
