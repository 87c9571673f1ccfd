-- Settle a batch of claims. Only the holder of the newest token may: a late one gets 'lease_lost' and changes
-- nothing.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 dedupe window (ms)
--       Breaker: 4 failures in a row | 5 failure ratio | 6 volume from which the ratio counts | 7 window (ms)
--         8 first and 9 longest time between probes (ms)
--       then per job, 14 each: id | token | verb | delay (ms, for retry and for a release with an effect) | reason |
--         strikes |
--         mark (doubt: this attempt may have landed; refused: "already exists", though none had; -: neither) |
--         spent (0: the attempt is given back) | history entry (JSON, or '' if no request was made) |
--         health (ok: Trackdesk answered properly, fail: it did not, -: says nothing) | probe (0/1) |
--         effect on the tenant | its duration (ms) | past its horizon (0/1: a bury is one even in an outage)
--         verbs: deliver | retry | bury | release
--         effects: freeze (over the rate limit) | hold (key, plan or endpoint refused) | clear and none (nothing)
-- Reply per job: 'ok' | 'lease_lost'
--
-- What stops a tenant, and what does not:
--   Breaker. Failures of at least two jobs, by their ratio in a sliding window, or in a row while that holds few.
--   Hold. A refusal (401, 403, wrong endpoint) while no other job is answered. Probes with other jobs begin after a
--     second, and only refusals of other jobs lengthen the interval.
--   Freeze. A throttled job pauses its tenant for a second, a probe with another job for two more, and a third freezes it.
--   Strike. A job that was refused before, and is refused again although others were answered since, explains it by
--     itself: nothing happens to the tenant, and after MOST_STRIKES the job is dead.
-- uses: records, tenant_times, doubt, ledger, wakeups, transitions

local ITEM, FIRST = 14, 10
local LEAST_FACTOR = 0.25 -- the pace after a freeze is halved, down to a quarter
local LONGEST_MS = 86400000 -- no policy asks for a longer delay or effect
local PAUSE_MS = 1000 -- until the first probe after a refusal
local QUIET_MS = 3000 -- without a proper answer, after which one refused job pauses its tenant
local MOST_STRIKES = { hold = 8, freeze = 20 } -- under a true limit a job may have bad luck a few times in a row
local SEVERAL = '*'
local CROWD = 4 -- answers per job newly refused, below which a refused job is not alone
local VERBS = { deliver = true, retry = true, bury = true, release = true }
local MARKS = { doubt = true, refused = true, ['-'] = true }
local HEALTHS = { ok = true, fail = true, ['-'] = true }
local EFFECTS = { freeze = true, hold = true, clear = true, none = true }
local REFUSALS = { unauthorized = true, forbidden = true, rate_limited = true, bad_endpoint = true }
local keep_ms = tonumber(ARGV[3])
local in_a_row, ratio, volume, window_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local first_probe_ms, last_probe_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
if not (keep_ms and in_a_row and ratio and volume and window_ms and first_probe_ms and last_probe_ms) then
  return redis.error_reply('ERR settle: dedupe window and breaker must be numbers')
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

-- Tenants ---------------------------------------------------------------------------------------------
-- What this batch knows and learns of a tenant; read once, written once.

local FIELDS = {
  'streak', 'failing', 'answers', 'window', 'hold', 'probe_ms', 'probe_at', 'probe_token', 'probing', 'probed',
  'witness', 'capped', 'frozen_until', 'factor', 'probe_in', 'frozen_for',
}
local NUMBERS = { streak = 0, window = FIRST_WINDOW, probe_ms = 0, probe_at = 0, probe_token = 0, probing = 0,
  frozen_until = 0 }
local tenants = {}

local function tenant_state(tenant)
  local state = tenants[tenant]
  if not state then
    local stored = redis.call('HMGET', key('tenant', tenant), unpack(FIELDS))
    state = { tenant = tenant, answered = 0, changes = {} }
    for i, field in ipairs(FIELDS) do
      state[field] = stored[i] or nil
    end
    state.probe_at = time_ahead(tenant, 'probe_at', state.probe_at, state.probe_in)
    state.frozen_until = time_ahead(tenant, 'frozen_until', state.frozen_until, state.frozen_for)
    for field, default in pairs(NUMBERS) do
      state[field] = tonumber(state[field]) or default
    end
    state.in_flight = redis.call('ZCOUNT', key('places', tenant), '(' .. integer(NOW_MS), '+inf')
    tenants[tenant] = state
  end
  return state
end

local function set(state, field, value)
  state[field] = value
  state.changes[field] = type(value) == 'number' and integer(value) or value
end

local function clear(state, ...)
  for _, field in ipairs({ ... }) do
    state[field] = NUMBERS[field]
    state.changes[field] = false
  end
end

-- The sliding window of answers, in two halves: when the present one began, its proper answers, failures and jobs newly
-- refused, then those of the half before, then when the last proper answer came.
local OK, FAILED, REFUSED, BEFORE, OK_AT = 2, 3, 4, 3, 8

local function answers_of(state)
  local seen = {}
  for number in string.gmatch(state.answers or '', '%d+') do
    seen[#seen + 1] = tonumber(number)
  end
  local age = NOW_MS - (seen[1] or 0)
  if #seen ~= OK_AT or age < 0 or age >= 2 * window_ms then
    return { NOW_MS, 0, 0, 0, 0, 0, 0, math.min(seen[OK_AT] or 0, NOW_MS) }
  elseif age >= window_ms then
    return { seen[1] + window_ms, 0, 0, 0, seen[OK], seen[FAILED], seen[REFUSED], seen[OK_AT] }
  end
  return seen
end

local function saw(state, what)
  local seen = answers_of(state)
  seen[what] = seen[what] + 1
  if what == OK then
    seen[OK_AT] = NOW_MS
  end
  for i, number in ipairs(seen) do
    seen[i] = integer(number)
  end
  set(state, 'answers', table.concat(seen, ' '))
end

-- How many the window holds: of the half before the share that is still inside.
local function within(state, what)
  local seen = answers_of(state)
  return seen[what] + (1 - (NOW_MS - seen[1]) / window_ms) * seen[what + BEFORE]
end

-- Whether the failures mean that Trackdesk is away.
local function is_outage(state)
  if state.failing ~= SEVERAL then
    return false -- one job alone is no evidence
  end
  local ok, failed = within(state, OK), within(state, FAILED)
  if ok + failed < volume then
    return state.streak >= in_a_row
  end
  return state.streak >= volume or failed >= ratio * (ok + failed)
end

-- From now on only probes, the next ones after `probe_ms`, but not before those under way have ended. A tenant that
-- comes back starts with a small window again.
local function hold(state, reason, probe_ms)
  if not state.hold then
    set(state, 'held_since', NOW_MS)
    set(state, 'window', FIRST_WINDOW)
  end
  set(state, 'hold', reason)
  set(state, 'probe_ms', probe_ms)
  set(state, 'probe_at', math.max(state.probe_at, NOW_MS + probe_ms))
end

local function end_hold(state)
  clear(state, 'hold', 'held_since', 'probe_at', 'probe_in', 'probe_ms', 'probe_token', 'probing', 'probed', 'witness',
    'failing', 'streak', 'capped_since')
  state.released = true
end

-- One episode halves the pace once: answers that were under way when it began only prolong it.
local function freeze(state, for_ms)
  local until_ms = NOW_MS + for_ms
  if until_ms <= state.frozen_until then
    return
  end
  if state.frozen_until < NOW_MS then
    local climbed = (NOW_MS - state.frozen_until) / CLIMB_MS
    local now_factor = state.factor and math.min(1, state.factor + climbed) or 1
    set(state, 'factor', tostring(math.max(LEAST_FACTOR, now_factor / 2)))
    count(state.tenant, 'freezes', 1)
  end
  set(state, 'frozen_until', until_ms)
  set(state, 'frozen_reason', THROTTLED)
end

-- Note who was refused; return whether another job was before, since the tenant last gave a proper answer.
local function is_second_witness(state, id)
  local second = state.witness ~= nil and state.witness ~= id
  set(state, 'witness', second and SEVERAL or id)
  return second
end

-- Whether a refused job explains it by itself: it was refused before, and others were answered since.
local function is_alone(state, id, job)
  if state.hold or not REFUSALS[job.reason] or within(state, REFUSED) * CROWD > within(state, OK) then
    return false
  end
  local sound, entry = pcall(cjson.decode, redis.call('LINDEX', key('history', id), -1) or '')
  local refused_ms = sound and type(entry) == 'table' and tonumber(entry.at_ms)
  return refused_ms and answers_of(state)[OK_AT] > refused_ms
end

-- What a refusal means for a tenant that is not held.
local function refused(state, id, effect, for_ms, reason)
  is_second_witness(state, id)
  if effect == 'freeze' and state.frozen_until > NOW_MS then
    freeze(state, for_ms)
  elseif effect == 'freeze' or NOW_MS - answers_of(state)[OK_AT] >= QUIET_MS then
    hold(state, effect == 'freeze' and THROTTLED or reason, PAUSE_MS)
  end
end

-- What a refused probe means; return whether it lengthens the interval. One that is refused for another reason than
-- the tenant is held for changes that reason, once a second job confirms it.
local function refused_probe(state, id, effect, for_ms, reason)
  if effect == 'freeze' and state.hold ~= THROTTLED or not is_second_witness(state, id) then
    return false
  elseif effect == 'freeze' and state.probe_ms > PAUSE_MS then
    end_hold(state)
    freeze(state, for_ms)
    return false
  elseif effect == 'freeze' or state.hold == reason then
    return true
  end
  set(state, 'hold', reason)
  set(state, 'probe_ms', PAUSE_MS)
  return false
end

-- One of the probes that went out together has ended. When all have, the next ones wait: longer if one was bad, not at
-- all if none was sent.
local function probe_ended(state, sent, bad)
  if not state.hold then
    return
  end
  set(state, 'probing', state.probing - 1)
  if bad or sent and state.probed ~= 'bad' then
    set(state, 'probed', bad and 'bad' or 'sent')
  end
  if state.probing > 0 then
    return
  end
  local wait_ms = state.probed == '-' and 0 or state.probe_ms
  if state.probed == 'bad' then
    wait_ms = math.max(wait_ms, math.min(wait_ms * 2, last_probe_ms))
    set(state, 'probe_ms', wait_ms)
  end
  set(state, 'probe_at', NOW_MS + wait_ms)
end

-- Take in what an answer says of the tenant; return whether the job explains a refusal by itself.
local function learn(state, id, job, answer)
  local of_group = answer.probe and answer.token >= state.probe_token
  if answer.health == 'ok' then
    saw(state, OK)
    state.answered = state.answered + 1
    if answer.probe and state.hold then
      end_hold(state)
    elseif state.streak > 0 then
      clear(state, 'streak', 'failing')
    end
    if state.witness and not state.hold then
      clear(state, 'witness')
    end
    return false
  end
  local alone, bad = false, false
  if answer.health == 'fail' then
    saw(state, FAILED)
    local first = state.streak == 0 or state.failing == id
    set(state, 'failing', first and id or SEVERAL)
    set(state, 'streak', state.streak + 1)
    bad = true
    if not state.hold and is_outage(state) then
      hold(state, OUTAGE, first_probe_ms)
      return false
    end
  elseif answer.refusal then
    alone = is_alone(state, id, job)
    if not REFUSALS[job.reason] then
      saw(state, REFUSED)
    end
    if not state.hold and not alone then
      refused(state, id, answer.effect, answer.for_ms, answer.reason)
      return false
    elseif state.hold and of_group then
      bad = refused_probe(state, id, answer.effect, answer.for_ms, answer.reason)
    end
  end
  if of_group then
    probe_ended(state, answer.sent, bad)
  end
  return alone
end

-- Jobs ------------------------------------------------------------------------------------------------

local replies, woken = {}, {}
for base = FIRST, #ARGV, ITEM do
  local id, token, verb = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local reason, strikes, spent, entry = ARGV[base + 4], ARGV[base + 5], ARGV[base + 7], ARGV[base + 8]
  local job = read_job(id)
  if not job or job.state ~= 'in_flight' or job.token ~= token then
    replies[#replies + 1] = 'lease_lost'
  else
    local tenant = tenant_of(id)
    local state, delay_ms = tenant_state(tenant), duration(ARGV[base + 3])
    local answer = {
      token = tonumber(token), health = ARGV[base + 9], probe = ARGV[base + 10] == '1', sent = entry ~= '',
      effect = ARGV[base + 11], for_ms = duration(ARGV[base + 12]), reason = reason,
    }
    local held_before, past_horizon = state.hold, ARGV[base + 13] == '1'
    answer.refusal = answer.sent and (answer.effect == 'freeze' or answer.effect == 'hold')
    local alone = learn(state, id, job, answer)
    if answer.health == 'fail' and state.hold and (verb == 'retry' or verb == 'bury') and not past_horizon then
      -- Time of an outage or a hold spends no attempts: the job waits as ready until a probe is answered.
      verb, spent = 'release', '0'
    elseif answer.refusal and (verb == 'release' or verb == 'bury' and answer.probe and held_before and not past_horizon) then
      -- The tenant's trouble, perhaps: the job steps aside, so that the next probe is another one.
      verb, spent, delay_ms = 'retry', '0', math.max(delay_ms, PAUSE_MS)
      strikes = REFUSALS[job.reason] and tonumber(job.strikes) + (alone and 1 or 0) or 0
      if strikes >= MOST_STRIKES[answer.effect] then
        verb, reason = 'bury', 'refused_alone'
      end
      strikes = integer(strikes)
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
      job.reason, job.strikes = reason, strikes
    end
    if verb == 'deliver' then
      count(tenant, 'delivered_' .. reason, 1)
      to_terminal(id, job, 'delivered', reason, keep_ms)
    elseif verb == 'retry' then
      if job.job_class == 'live' then
        job.job_class = 'retry'
      end
      to_scheduled(id, job, delay_ms)
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

for tenant, state in pairs(tenants) do
  if state.answered > 0 and not state.hold and not state.released and state.in_flight >= state.window then
    -- The window was used up and Trackdesk answers: it may grow. A tenant that needs few never gets many.
    set(state, 'window', state.window + state.answered)
  end
  if state.changes.probe_at then
    set(state, 'probe_in', state.probe_at - NOW_MS)
  end
  if state.changes.frozen_until then
    set(state, 'frozen_for', state.frozen_until - NOW_MS)
  end
  local written, gone = {}, {}
  for field, value in pairs(state.changes) do
    if value then
      written[#written + 1], written[#written + 2] = field, value
    else
      gone[#gone + 1] = field
    end
  end
  if state.capped then
    gone[#gone + 1] = 'capped'
  end
  if #written > 0 then
    redis.call('HSET', key('tenant', tenant), unpack(written))
  end
  if #gone > 0 then
    redis.call('HDEL', key('tenant', tenant), unpack(gone))
  end
  if state.capped or state.released and not state.hold then
    redis.call('ZADD', key('turn'), 'XX', 'LT', integer(NOW_US), tenant)
    woken[tenant] = true
  end
  if state.hold and state.changes.probe_at then
    redis.call('ZADD', key('turn'), 'XX', turn_at(state.probe_at * 1000), tenant)
  end
end

queue_turns(woken, ARGV[2])
close_books()
return replies
