-- Forget plans that ended long ago, and give up those that nobody started in time. Counted.
-- KEYS  1 prefix
-- ARGV  1 now | 2 how long an ended plan is kept (ms) | 3 how long an unstarted one waits (ms)
--       4 old plans looked at, at most | 5 old plans to pass over: those that the calls before looked at and left
-- Reply { forgotten, given up, old plans to pass over in the next call; -1: all were looked at }

local kept_ms, waiting_ms, most, skip = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local forgotten, given_up = 0, 0
-- All of them: open plans are few (plan_create), and those that run or rest must not hide those nobody started.
local waiting = redis.call('ZRANGEBYSCORE', key('plans_open'), '-inf', integer(NOW_MS - waiting_ms))
for _, id in ipairs(waiting) do
  local plan = key('plan', id)
  local state = redis.call('TYPE', plan).ok == 'hash' and redis.call('HGET', plan, 'state')
  if state == 'listing' or state == 'ready' then
    redis.call('HSET', plan, 'state', 'cancelled', 'ended_ms', integer(NOW_MS))
    redis.call('HDEL', plan, 'search')
    redis.call('DEL', key('plan_items', id .. ':named'))
    local left = 0
    for _, tenant in ipairs(redis.call('SMEMBERS', key('plan_tenants', id))) do
      left = left + redis.call('LLEN', key('plan_items', id .. ':pending:' .. tenant))
    end
    if left > 0 then
      redis.call('HSET', key('plan_sums', id), 'verdict/cancelled', integer(left))
    end
    redis.call('ZREM', key('plans_open'), id)
    redis.call('RPUSH', key('audit_log_waiting'), '{"plan_ended":"' .. id .. '"}')
    given_up = given_up + 1
  end
end
-- What is no plan must not stop the others from being forgotten.
local aside = 0
local old = redis.call('ZRANGEBYSCORE', key('plans'), '-inf', integer(NOW_MS - kept_ms), 'LIMIT', skip, most)
for _, id in ipairs(old) do
  local stored_as = redis.call('TYPE', key('plan', id)).ok
  if stored_as ~= 'hash' and stored_as ~= 'none' then
    redis.call('ZREM', key('plans'), id)
    redis.call('ZREM', key('plans_open'), id)
    redis.call('SADD', key('plans_unreadable'), id)
    aside = aside + 1
  end
  local ended = stored_as == 'hash' and tonumber(redis.call('HGET', key('plan', id), 'ended_ms') or '')
  if ended and ended <= NOW_MS - kept_ms then
    for _, tenant in ipairs(redis.call('SMEMBERS', key('plan_tenants', id))) do
      redis.call('UNLINK', key('plan_items', id .. ':pending:' .. tenant))
    end
    for _, kind in ipairs({ 'done', 'skipped', 'refused', 'named' }) do
      redis.call('UNLINK', key('plan_items', id .. ':' .. kind))
    end
    redis.call('DEL', key('plan', id), key('plan_sums', id), key('plan_tenants', id))
    redis.call('ZREM', key('plans'), id)
    redis.call('INCR', key('plans_forgotten'))
    forgotten = forgotten + 1
  end
end
return { forgotten, given_up, #old < most and -1 or skip + #old - forgotten - aside }
