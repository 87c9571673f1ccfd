-- Move scheduled jobs that are due to ready. Retries that a clock which was ahead scheduled wait from now on, as long as
-- they were to wait.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most
-- Reply number of jobs moved
-- uses: records, ledger, wakeups, expect, transitions

local LOOKED_AT = 50 -- entries of `retries`, whether their job is scheduled

local ahead = redis.call('ZRANGEBYSCORE', key('retries'), '(' .. integer(NOW_MS), '+inf', 'WITHSCORES', 'LIMIT', 0,
  tonumber(ARGV[3]))
for i = 1, #ahead, 2 do
  local id, since_ms = ahead[i], tonumber(ahead[i + 1])
  local job = expect(id, 'scheduled', key('scheduled'))
  if job then
    leave(id, job)
    to_scheduled(id, job, math.max(0, tonumber(job.at) - since_ms))
  end
end

local due = redis.call('ZRANGEBYSCORE', key('scheduled'), '-inf', integer(NOW_MS), 'LIMIT', 0, tonumber(ARGV[3]))
local woken = {}
for i, id in ipairs(due) do
  local job = expect(id, 'scheduled', key('scheduled'))
  if job then
    leave(id, job)
    to_ready(id, job, NOW_US + i - 1)
    woken[tenant_of(id)] = true
  end
end

-- Entries of jobs that wait no more, drawn by lot. An older release, which does not know this index, leaves them; only
-- one without a record counts.
for _, id in ipairs(redis.call('ZRANDMEMBER', key('retries'), LOOKED_AT)) do
  if not redis.call('ZSCORE', key('scheduled'), id) and redis.call('ZREM', key('retries'), id) == 1
      and redis.call('EXISTS', key('job', id)) == 0 then
    count(tenant_of(id), 'orphaned_entries', 1)
  end
end
queue_turns(woken, ARGV[2])
close_books()
return #due
