-- Give dead letters a fresh attempt budget: same job, same identity, history kept.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 history entry (JSON: who, why, when) | 4… ids
-- Reply per id: 'redriven' | 'unknown' | 'refused:<state>'

local replies, woken = {}, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local job = read_job(id)
  if not job then
    replies[#replies + 1] = 'unknown'
  elseif job.state ~= 'dead' then
    replies[#replies + 1] = 'refused:' .. job.state
  else
    leave(id, job)
    note(id, ARGV[3])
    job.attempts, job.strikes, job.epoch, job.job_class = '0', '0', integer(NOW_MS), 'redrive'
    job.redrives = integer(tonumber(job.redrives) + 1)
    to_ready(id, job, NOW_US + i)
    count(tenant_of(id), 'redriven', 1)
    woken[tenant_of(id)] = true
    replies[#replies + 1] = 'redriven'
  end
end
queue_turns(woken, ARGV[2])
close_books()
return replies
