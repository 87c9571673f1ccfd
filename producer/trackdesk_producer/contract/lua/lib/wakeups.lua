-- Turns of tenants and wake-ups of workers.
-- uses: indexes

local WAKEUPS_WANTED = 4 -- as many waiting wake-ups start as many processes; more would only be read and dropped
local LOOK_AGAIN_US = 60000000 -- no turn is further ahead; a tenant that waits longer is checked in between

local function turn_at(at_us)
  return integer(math.min(at_us, NOW_US + LOOK_AGAIN_US))
end

-- Add up to `most` wake-ups, as long as fewer than wanted are waiting.
local function wake(envelope, most)
  local waiting = redis.pcall('LLEN', key('wakeups'))
  if type(waiting) ~= 'number' then
    return -- not a list: workers also look for work themselves, so no script may fail because of a wake-up
  end
  local missing = WAKEUPS_WANTED - waiting
  for _ = 1, math.min(missing, most) do
    local tag = integer(redis.call('INCR', key('sequence')))
    redis.call('LPUSH', key('wakeups'), (string.gsub(envelope, '@TAG@', tag)))
  end
end

-- Give each of the tenants (a set) a turn, unless it has one; wake workers if a turn is due now.
local function queue_turns(tenants, envelope)
  local turns, now = {}, integer(NOW_US)
  for tenant in pairs(tenants) do
    turns[#turns + 1], turns[#turns + 2] = now, tenant
  end
  if #turns == 0 then
    return
  end
  call_in_parts(turns, 'ZADD', key('turn'), 'NX')
  local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
  if tonumber(head[2]) <= NOW_US then
    wake(envelope, #turns / 2)
  end
end
