-- Take back claims whose lease ran out: their process died, hung or lost Redis. The attempt stays spent and
-- counts as ambiguous, because its request may have landed. A job that keeps losing its sender is buried; from
-- the third loss in a row on, the jobs lost together come back one by one, so that the one that kills its sender
-- no longer takes the others along.
-- A lease that ends further ahead than the longest lease was given by a clock that was ahead: it begins now.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most | 4 attempts at most | 5 horizon (ms) | 6 the caller's lease (ms)
--       The tenant's own max_attempts and horizon_ms, where set, go before 4 and 5.
-- Reply { jobs that will be tried again, jobs buried }
-- uses: records, doubt, ledger, wakeups, expect, transitions

local SUSPECT_AFTER = 3
local APART_MS = 1000 -- more than the period of maintenance, which promotes them
local TENANTS, LOOKED_AT = 10, 100 -- whose places are looked at, and how many of each

local longest_ms = math.max(tonumber(redis.call('GET', key('longest_lease'))) or 0, tonumber(ARGV[6]))
redis.call('SET', key('longest_lease'), integer(longest_ms))

-- Places of jobs that are not in flight any more, of a few tenants drawn by lot. An older release, which does not know
-- this index, leaves them; only one without a record counts.
for _, tenant in ipairs(redis.call('SRANDMEMBER', key('tenants'), TENANTS)) do
  local places = key('places', tenant)
  for _, range in ipairs({ { '-inf', integer(NOW_MS) }, { '(' .. integer(NOW_MS + longest_ms), '+inf' } }) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', places, range[1], range[2], 'LIMIT', 0, LOOKED_AT)) do
      if not redis.call('ZSCORE', key('in_flight'), id) then
        local job = read_job(id)
        if job and job.state == 'in_flight' then
          redis.call('ZADD', key('in_flight'), job.at, id) -- it is the index that lost it
        else
          redis.call('ZREM', places, id)
          count(tenant, 'orphaned_entries', job and 0 or 1)
        end
      end
    end
  end
end

local ahead = redis.call('ZRANGEBYSCORE', key('in_flight'), '(' .. integer(NOW_MS + longest_ms), '+inf', 'LIMIT', 0,
  tonumber(ARGV[3]))
for _, id in ipairs(ahead) do
  local job = expect(id, 'in_flight', key('in_flight'))
  if job then
    job.at = integer(NOW_MS + longest_ms)
    write_live(id, job)
    redis.call('ZADD', key('in_flight'), job.at, id)
    redis.call('ZADD', key('places', tenant_of(id)), job.at, id)
  end
end

local policies = {}
local function spent(tenant, job)
  local own = policies[tenant]
  if not own then
    own = redis.call('HMGET', key('tenant', tenant), 'max_attempts', 'horizon_ms')
    policies[tenant] = own
  end
  return tonumber(job.attempts) >= tonumber(own[1] or ARGV[4])
    or NOW_MS - tonumber(job.epoch) >= tonumber(own[2] or ARGV[5])
end

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
    if spent(tenant, job) then
      to_dead(id, job, 'lost')
      buried = buried + 1
    else
      job.reason = 'lost'
      if job.job_class == 'live' then
        job.job_class = 'retry'
      end
      if tonumber(job.strikes) >= SUSPECT_AFTER then
        suspects = suspects + 1
        to_scheduled(id, job, suspects * APART_MS)
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
