-- Change what a tenant may do, or have its turn looked at again.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 act | 4 tenant | then, for pause: 5 operator | 6 reason
--         acts: pause (no claims until resume) | resume (also ends a freeze and tries a held tenant now)
-- Reply 'done' | 'unchanged'
-- uses: wakeups, pauses

local act, tenant = ARGV[3], ARGV[4]
local state = key('tenant', tenant)
if act == 'pause' then
  if redis.call('HEXISTS', state, 'paused') == 1 then
    return 'unchanged'
  end
  redis.call('HSET', state, 'paused', integer(NOW_MS), 'paused_by', ARGV[5], 'paused_why', ARGV[6])
  redis.call('HDEL', state, 'capped_since')
  redis.call('ZREM', key('turn'), tenant)
  return 'done'
end
local paused = redis.call('HMGET', state, 'paused', 'pauses')
if paused[1] then
  redis.call('HSET', state, 'pauses', pauses_with(paused[2], paused[1]))
end
local changed = redis.call('HDEL', state, 'paused', 'paused_by', 'paused_why', 'frozen_until', 'frozen_for',
  'frozen_reason', 'factor')
if redis.call('HEXISTS', state, 'hold') == 1 then
  redis.call('HSET', state, 'probe_at', integer(NOW_MS), 'probe_in', 0)
  changed = 1
end
redis.call('ZADD', key('turn'), 'LT', integer(NOW_US), tenant)
wake(ARGV[2], 1)
return changed > 0 and 'done' or 'unchanged'
