-- Wake a worker if any tenant's turn has come: wake-ups may be lost, so every worker asks now and then.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope
-- Reply 1 if work waits, else 0
-- uses: indexes, wakeups

-- Turns that a clock which was ahead gave out: the tenants are looked at again, now.
local ahead = redis.call('ZRANGEBYSCORE', key('turn'), '(' .. integer(NOW_US + LOOK_AGAIN_US), '+inf', 'LIMIT', 0, 500)
local turns = {}
for _, tenant in ipairs(ahead) do
  turns[#turns + 1], turns[#turns + 2] = integer(NOW_US), tenant
end
call_in_parts(turns, 'ZADD', key('turn'), 'XX')

local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
if head[2] and tonumber(head[2]) <= NOW_US then
  wake(ARGV[2], 1)
  return 1
end
return 0
