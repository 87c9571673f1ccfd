-- Settle a batch of claims. Only the holder of the newest token may: a late one gets 'lease_lost' and changes
-- nothing.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 dedupe window (ms) | 4 number of jobs
--       then per job, 9 each: id | token | verb | at (ms, for retry) | reason | strikes | ambiguous (0/1) |
--         spent (0: the attempt is given back) | history entry (JSON, or '' if no request was made)
--         verbs: deliver | retry | bury | release
--       then per tenant effect, 4 each: tenant | effect | until (ms) | reason
--         effects: freeze (the budget stands still until) | hold (only probes, the next one at until) | clear
-- Reply per job: 'ok' | 'lease_lost'

local ITEM, EFFECT = 9, 4
local VERBS = { deliver = true, retry = true, bury = true, release = true }
local EFFECTS = { freeze = true, hold = true, clear = true }
local window_ms, jobs = tonumber(ARGV[3]), tonumber(ARGV[4])
local effects_from = 5 + jobs * ITEM
if effects_from > #ARGV + 1 or (#ARGV - effects_from + 1) % EFFECT ~= 0 then
  return redis.error_reply('ERR settle: jobs come in groups of ' .. ITEM .. ', effects in groups of ' .. EFFECT)
end
-- An error halfway would not be rolled back: whatever could raise one, or write a record nobody can read, is
-- looked at before the first write.
for base = 5, effects_from - 1, ITEM do
  if not VERBS[ARGV[base + 2]] or not tonumber(ARGV[base + 3]) or not string.find(ARGV[base + 4], '^%S+$')
      or not tonumber(ARGV[base + 5]) then
    return redis.error_reply('ERR settle: job ' .. ARGV[base] .. ' has no sound verb, time, reason or strikes')
  end
end
for base = effects_from, #ARGV, EFFECT do
  if not EFFECTS[ARGV[base + 1]] or not tonumber(ARGV[base + 2]) then
    return redis.error_reply('ERR settle: tenant ' .. ARGV[base] .. ' has no sound effect or time')
  end
end

local replies, woken = {}, {}
for base = 5, effects_from - 1, ITEM do
  local id, token, verb = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local reason, spent, entry = ARGV[base + 4], ARGV[base + 7], ARGV[base + 8]
  local job = read_job(id)
  if not job or job.state ~= 'in_flight' or job.token ~= token then
    replies[#replies + 1] = 'lease_lost'
  else
    local tenant = tenant_of(id)
    leave(id, job)
    if ARGV[base + 6] == '1' then
      job.ambiguous = '1'
    end
    if spent == '0' then
      job.attempts = integer(tonumber(job.attempts) - 1)
    end
    if entry == '' then
      job.attempts_total = integer(tonumber(job.attempts_total) - 1)
    elseif verb ~= 'deliver' then
      note(id, entry)
    end
    if verb == 'retry' or verb == 'bury' then
      job.reason, job.strikes = reason, ARGV[base + 5]
    end
    if verb == 'deliver' then
      count(tenant, 'delivered_' .. reason, 1)
      to_terminal(id, job, 'delivered', reason, window_ms)
    elseif verb == 'retry' then
      if job.job_class == 'live' then
        job.job_class = 'retry'
      end
      to_scheduled(id, job, tonumber(ARGV[base + 3]))
    elseif verb == 'bury' then
      to_dead(id, job, reason)
    else
      -- Never sent: back to the front of its class. Sent: to the end, so that the next probe of a held tenant
      -- tries another job; the fault may be in this one.
      to_ready(id, job, entry == '' and tonumber(job.accepted) * 1000 or NOW_US)
      woken[tenant] = true
    end
    replies[#replies + 1] = 'ok'
  end
end

for base = effects_from, #ARGV, EFFECT do
  local tenant, effect, until_ms, reason = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2]), ARGV[base + 3]
  local state = key('tenant', tenant)
  if effect == 'freeze' then
    if until_ms > (tonumber(redis.call('HGET', state, 'frozen_until')) or 0) then
      redis.call('HSET', state, 'frozen_until', integer(until_ms), 'frozen_reason', reason)
    end
  elseif effect == 'hold' then
    redis.call('HSETNX', state, 'held_since', integer(NOW_MS))
    redis.call('HSET', state, 'hold', reason, 'probe_at', integer(until_ms))
  elseif redis.call('HDEL', state, 'hold', 'probe_at', 'held_since') > 0 then
    redis.call('ZADD', key('turn'), 'XX', 'LT', integer(NOW_US), tenant)
    woken[tenant] = true
  end
end

for tenant in pairs(woken) do
  queue_turn(tenant, ARGV[2])
end
close_books()
return replies
