-- Wake a worker if any tenant's turn has come: wake-ups may be lost, so every worker asks now and then.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope
-- Reply 1 if work waits, else 0

local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
if head[2] and tonumber(head[2]) <= NOW_US then
  ring(ARGV[2], 1)
  return 1
end
return 0
