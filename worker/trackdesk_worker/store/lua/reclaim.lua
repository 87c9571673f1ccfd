-- Take back claims whose lease ran out: their process died, hung or lost Redis. The attempt stays spent and
-- counts as ambiguous, because its request may have landed. A job that keeps losing its sender is buried; from
-- the third loss in a row on, the jobs lost together come back one by one, so that the one that kills its sender
-- no longer takes the others along.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most | 4 attempts at most
-- Reply { jobs that will be tried again, jobs buried }

local SUSPECT_AFTER = 3
local APART_MS = 1000 -- more than the period of maintenance, which promotes them

local most_attempts = tonumber(ARGV[4])
local lost = redis.call('ZRANGEBYSCORE', key('in_flight'), '-inf', integer(NOW_MS), 'LIMIT', 0, tonumber(ARGV[3]))
local woken, again, buried, suspects = {}, 0, 0, 0
for i, id in ipairs(lost) do
  local job = expect(id, 'in_flight', key('in_flight'))
  if job then
    local tenant = tenant_of(id)
    leave(id, job)
    add_doubt(id, job, '')
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
      if tonumber(job.strikes) >= SUSPECT_AFTER then
        suspects = suspects + 1
        to_scheduled(id, job, NOW_MS + suspects * APART_MS)
      else
        to_ready(id, job, NOW_US + i - 1)
        woken[tenant] = true
      end
      again = again + 1
    end
  end
end
queue_turns(woken, ARGV[2])
close_books()
return { again, buried }
