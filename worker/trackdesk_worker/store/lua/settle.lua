-- Settle a batch of claims. Only the holder of the newest token may: a late one gets 'lease_lost' and changes
-- nothing.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 dedupe window (ms) | 4 failures in a row that open the breaker
--       5 first and 6 longest time between probes of an open breaker (ms)
--       then per job, 13 each: id | token | verb | delay (ms, for retry) | reason | strikes |
--         mark (doubt: this attempt may have landed; refused: "already exists", though none had; -: neither) |
--         spent (0: the attempt is given back) | history entry (JSON, or '' if no request was made) |
--         health (ok: Trackdesk answered properly, fail: it did not, -: says nothing) | probe (0/1) |
--         effect on the tenant | its duration (ms)
--         verbs: deliver | retry | bury | release
--         effects: freeze (no requests for the duration) | hold (only probes, the first after the duration) |
--           clear and none (nothing; the health says the rest)
-- Reply per job: 'ok' | 'lease_lost'

local ITEM, FIRST = 13, 7
local LEAST_FACTOR = 0.25 -- the pace after a 429 is halved, down to a quarter
local LEAST_PROBE_MS = 1000
local LONGEST_MS = 86400000 -- no policy asks for a longer delay or effect
local OUTAGE = 'outage'
local VERBS = { deliver = true, retry = true, bury = true, release = true }
local MARKS = { doubt = true, refused = true, ['-'] = true }
local HEALTHS = { ok = true, fail = true, ['-'] = true }
local EFFECTS = { freeze = true, hold = true, clear = true, none = true }
local window_ms, threshold = tonumber(ARGV[3]), tonumber(ARGV[4])
local first_probe_ms, last_probe_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
if not (window_ms and threshold and first_probe_ms and last_probe_ms) then
  return redis.error_reply('ERR settle: window and breaker must be numbers')
end
if (#ARGV - FIRST + 1) % ITEM ~= 0 then
  return redis.error_reply('ERR settle: jobs come in groups of ' .. ITEM)
end
-- An error halfway would not be rolled back: whatever could raise one, or write a record nobody can read, is
-- looked at before the first write.
for base = FIRST, #ARGV, ITEM do
  if not VERBS[ARGV[base + 2]] or not tonumber(ARGV[base + 3]) or not string.find(ARGV[base + 4], '^%S+$')
      or not tonumber(ARGV[base + 5]) or not MARKS[ARGV[base + 6]] or not HEALTHS[ARGV[base + 9]]
      or not EFFECTS[ARGV[base + 11]] or not tonumber(ARGV[base + 12]) then
    return redis.error_reply('ERR settle: job ' .. ARGV[base]
      .. ' has no sound verb, delay, reason, strikes, mark, health, effect or duration')
  end
end

local function duration(word)
  return math.max(0, math.min(tonumber(word), LONGEST_MS))
end

-- What this batch knows and learns of a tenant; read once, written once.
local tenants = {}
local function tenant_state(tenant)
  local state = tenants[tenant]
  if not state then
    local stored = redis.call('HMGET', key('tenant', tenant), 'streak', 'window', 'hold', 'probe_ms', 'capped',
      'probe_at', 'probe_token', 'frozen_until', 'factor', 'probe_in', 'frozen_for')
    state = {
      streak = tonumber(stored[1]) or 0,
      window = tonumber(stored[2]) or FIRST_WINDOW,
      hold = stored[3],
      probe_ms = tonumber(stored[4]) or first_probe_ms,
      capped = stored[5],
      probe_at = time_ahead(tenant, 'probe_at', stored[6], stored[10]),
      probe_token = stored[7],
      frozen_until = time_ahead(tenant, 'frozen_until', stored[8], stored[11]),
      factor = tonumber(stored[9]),
      in_flight = redis.call('ZCOUNT', key('places', tenant), '(' .. integer(NOW_MS), '+inf'),
      answered = 0,
      changes = {},
    }
    state.first_streak = state.streak
    tenants[tenant] = state
  end
  return state
end

-- From now on only probes, the next one after `probe_ms`, but not before the one under way has ended. A tenant
-- that comes back starts with a small window again.
local function hold(state, reason, probe_ms)
  if not state.hold then
    state.changes.held_since = integer(NOW_MS)
    state.changes.window = FIRST_WINDOW
  end
  state.hold, state.probe_ms = reason, probe_ms
  state.probe_at = math.max(state.probe_at, NOW_MS + probe_ms)
  state.changes.hold, state.changes.probe_ms = reason, integer(probe_ms)
  state.changes.probe_at = integer(state.probe_at)
end

local function longer(probe_ms)
  return math.max(probe_ms, math.min(probe_ms * 2, last_probe_ms))
end

-- The end of a held tenant's probe. One that has a successor, because its lease ran out or an operator asked for
-- another, may still bring good news; the next probe's time is the successor's to say.
local function learn_of_probe(state, token, health, unsent)
  if health == 'ok' then
    state.released = true
  elseif token == state.probe_token then
    state.probe_at = 0
    if health == 'fail' then
      hold(state, state.hold, longer(state.probe_ms))
    else
      state.probed = not unsent
      state.probe_at = unsent and NOW_MS or NOW_MS + state.probe_ms
      state.changes.probe_at = integer(state.probe_at)
    end
  end
end

local function learn(state, health)
  if health == 'ok' then
    state.streak, state.answered = 0, state.answered + 1
  elseif health == 'fail' then
    state.streak = state.streak + 1
    if not state.hold and state.streak >= threshold then
      hold(state, OUTAGE, first_probe_ms)
    end
  end
end

local replies, woken, effects = {}, {}, {}
for base = FIRST, #ARGV, ITEM do
  local id, token, verb = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local reason, spent, entry = ARGV[base + 4], ARGV[base + 7], ARGV[base + 8]
  local job = read_job(id)
  if not job or job.state ~= 'in_flight' or job.token ~= token then
    replies[#replies + 1] = 'lease_lost'
  else
    local tenant = tenant_of(id)
    local state, health = tenant_state(tenant), ARGV[base + 9]
    if ARGV[base + 10] == '1' and state.hold then
      learn_of_probe(state, token, health, entry == '')
    end
    learn(state, health)
    if health == 'fail' and state.hold and (verb == 'retry' or verb == 'bury') then
      -- Time of an outage or a hold spends no attempts: the job waits as ready until a probe is answered.
      verb, spent = 'release', '0'
    end
    leave(id, job)
    if ARGV[base + 6] == 'doubt' then
      add_doubt(id, job, '')
    elseif ARGV[base + 6] == 'refused' and job.ambiguous == '0' and later_word(job, 'refused') == '-' then
      set_later_word(job, 'refused', integer(NOW_MS))
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
      to_scheduled(id, job, duration(ARGV[base + 3]))
    elseif verb == 'bury' then
      to_dead(id, job, reason)
    else
      -- Never sent: back to the front of its class. Sent: to the end, so that the next probe of a held tenant
      -- tries another job; the fault may be in this one.
      to_ready(id, job, entry == '' and tonumber(job.accepted) * 1000 or NOW_US)
      woken[tenant] = true
    end
    effects[#effects + 1] = { tenant = tenant, kind = ARGV[base + 11], ms = duration(ARGV[base + 12]), reason = reason }
    replies[#replies + 1] = 'ok'
  end
end

-- One episode of 429s halves the pace once: answers that were under way when it began only prolong it.
local function freeze(tenant, until_ms, reason)
  local state = tenants[tenant]
  if until_ms <= state.frozen_until then
    return
  end
  if state.frozen_until < NOW_MS then
    local climbed = (NOW_MS - state.frozen_until) / CLIMB_MS
    local now_factor = state.factor and math.min(1, state.factor + climbed) or 1
    state.changes.factor = tostring(math.max(LEAST_FACTOR, now_factor / 2))
    count(tenant, 'freezes', 1)
  end
  state.frozen_until = until_ms
  state.changes.frozen_until, state.changes.frozen_reason = integer(until_ms), reason
end

for _, effect in ipairs(effects) do
  local state = tenants[effect.tenant]
  if effect.kind == 'freeze' then
    freeze(effect.tenant, NOW_MS + effect.ms, effect.reason)
  elseif effect.kind == 'hold' then
    if state.probed then
      state.probe_at = 0 -- set by what the probe's settlement said; its answer knows better
    end
    if state.hold ~= effect.reason then
      hold(state, effect.reason, math.max(LEAST_PROBE_MS, effect.ms))
    elseif state.probed then
      hold(state, effect.reason, longer(state.probe_ms))
      state.probed = false
    end -- else an answer that was under way when the hold began: nothing new
  end
end

for tenant, state in pairs(tenants) do
  local changes = state.changes
  if state.streak ~= state.first_streak then
    changes.streak = integer(state.streak)
  end
  if state.released and not changes.hold then
    redis.call('HDEL', key('tenant', tenant), 'hold', 'held_since', 'probe_at', 'probe_in', 'probe_ms',
      'probe_token')
    redis.call('ZADD', key('turn'), 'XX', 'LT', integer(NOW_US), tenant)
    changes.probe_at, changes.probe_ms = nil, nil
    woken[tenant] = true
  elseif state.answered > 0 and not state.hold and state.in_flight >= state.window then
    -- The window was used up and Trackdesk answers: it may grow. A tenant that needs few never gets many.
    changes.window = integer(state.window + state.answered)
  end
  if state.capped then
    redis.call('HDEL', key('tenant', tenant), 'capped')
    redis.call('ZADD', key('turn'), 'XX', 'LT', integer(NOW_US), tenant)
    woken[tenant] = true
  end
  if changes.probe_at then
    changes.probe_in = integer(tonumber(changes.probe_at) - NOW_MS)
  end
  if changes.frozen_until then
    changes.frozen_for = integer(tonumber(changes.frozen_until) - NOW_MS)
  end
  local write = {}
  for name, value in pairs(changes) do
    write[#write + 1], write[#write + 2] = name, value
  end
  if #write > 0 then
    redis.call('HSET', key('tenant', tenant), unpack(write))
  end
  if changes.probe_at then
    redis.call('ZADD', key('turn'), 'XX', turn_at(tonumber(changes.probe_at) * 1000), tenant)
  end
end

queue_turns(woken, ARGV[2])
close_books()
return replies
