-- Times in the state of a tenant. Clocks jump: a stored time that is further ahead than its rule allows was written while
-- the clock was ahead. Scripts detect this when they read the time, and limit it from now.

local LONGEST_WAIT_MS = 3600000 -- where the duration is not stored beside the time

-- A time (ms) in the state of a tenant that was `ahead_ms` in the future when it was stored.
local function time_ahead(tenant, field, at_ms, ahead_ms)
  local latest = NOW_MS + (tonumber(ahead_ms) or LONGEST_WAIT_MS)
  at_ms = tonumber(at_ms) or 0
  if at_ms > latest then
    at_ms = latest
    redis.call('HSET', key('tenant', tenant), field, integer(at_ms))
  end
  return at_ms
end

-- When the tenant's store was restored, never later than now, and since when it had lost writes: for `carry_doubt` and
-- `may_be_forgotten`. `stored`: the tenant's fields doubt and doubt_since.
local function restored_of(tenant, stored)
  return { stored[1] and time_ahead(tenant, 'doubt', stored[1], 0), stored[2] }
end
