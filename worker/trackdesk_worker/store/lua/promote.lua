-- Move scheduled jobs that are due to ready.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most
-- Reply number of jobs moved

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
queue_turns(woken, ARGV[2])
close_books()
return #due
