-- Take back claims whose lease ran out: their process died, hung or lost Redis. The attempt stays spent and
-- counts as ambiguous, because its request may have landed. A job that keeps losing its sender is buried.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most | 4 attempts at most
-- Reply { jobs made ready, jobs buried }

local most_attempts = tonumber(ARGV[4])
local lost = redis.call('ZRANGEBYSCORE', key('in_flight'), '-inf', integer(NOW_MS), 'LIMIT', 0, tonumber(ARGV[3]))
local woken, ready, buried = {}, 0, 0
for i, id in ipairs(lost) do
  local job = expect(id, 'in_flight', key('in_flight'))
  if job then
    local tenant = tenant_of(id)
    leave(id, job)
    job.ambiguous = '1'
    job.strikes = job.reason == 'lost' and integer(tonumber(job.strikes) + 1) or '1'
    note(id, cjson.encode({
      kind = 'attempt', at_ms = NOW_MS, attempt = tonumber(job.attempts_total), outcome = 'ambiguous',
      reason = 'lost',
    }))
    count(tenant, 'reclaimed', 1)
    if tonumber(job.attempts) >= most_attempts then
      to_dead(id, job, 'lost')
      buried = buried + 1
    else
      job.reason = 'lost'
      if job.job_class == 'live' then
        job.job_class = 'retry'
      end
      to_ready(id, job, NOW_US + i - 1)
      woken[tenant] = true
      ready = ready + 1
    end
  end
end
for tenant in pairs(woken) do
  queue_turn(tenant, ARGV[2])
end
close_books()
return { ready, buried }
