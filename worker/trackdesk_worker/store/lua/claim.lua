-- Hand out ready jobs: fair across tenants, each within its budget, classes by share. Raises the fencing
-- token, leases the job and records the attempt before any request leaves.
-- KEYS  1 prefix
-- ARGV  1 now | 2 jobs wanted | 3 lease (ms) | 4 rate (µs per request, 0: no limit) | 5 burst (requests)
--       6 requests in flight a tenant may have | 7 classes of ten or more slots, as a word of l(ive), r(etry) and
--       d (redrive): each class' guaranteed share; what a class leaves is taken by the others, live first
--       The tenant's own rate_us, burst and cap, where set, go before 4 to 6.
-- Reply { wait, now, job… }: wait is the time (ms) until the next tenant's turn, 0 if one waits now, -1 if no job
--       is ready; now is the store's time (ms); each job is 13 values: id | token | attempts | strikes | reason | past |
--       epoch | accepted | class | probe (1: the tenant is held, this job tries it) | attempts in all | trace | body;
--       past: '-', or the fingerprint of its content, the contents in doubt (contract/doubt.py), and when it was refused
-- Cost: O(jobs handed out), and at most VISITS tenants looked at, however many there are.
-- uses: records, tenant_times, pauses, doubt, indexes, ledger, wakeups, expect

local VISITS = 64
local DUE_US = NOW_US + VISITS -- a round's turns are a µs apart: those of a tenant due now lie this close
local CAPPED_US = 1000000 -- a tenant at its cap gets its turn back when it settles; this is for lost settles
local USE_US = 60000000 -- length of each half of the record of what the budget was used for
local PROBES = 3 -- that a held tenant sends together; one if it is throttled
local SLOTS = ARGV[7]
local CLASS_OF = { l = 'live', r = 'retry', d = 'redrive' }
local CLASSES = { 'live', 'retry', 'redrive' }

local wanted, lease_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_end = integer(NOW_MS + lease_ms)
local jobs, reply = 0, { -1, NOW_MS }

local function pop(tenant, class, most, newest)
  local popped = redis.call(newest and 'ZPOPMAX' or 'ZPOPMIN', key('ready', tenant .. ':' .. class), most)
  local ids = {}
  for i = 1, #popped, 2 do
    ids[#ids + 1] = popped[i]
  end
  return ids
end

-- At most `most` ready jobs of the tenant, by class share; `cursor` remembers the place in SLOTS. `newest`: to find one
-- that is not refused behind many that are, the newest, live ones first.
local function take(tenant, most, cursor, newest)
  local share = { live = newest and most or 0, retry = 0, redrive = 0 }
  for i = 0, newest and -1 or most - 1 do
    local at = (cursor + i) % #SLOTS + 1
    local class = CLASS_OF[string.sub(SLOTS, at, at)]
    share[class] = share[class] + 1
  end
  local ids = {}
  for pass = 1, 2 do
    for _, class in ipairs(CLASSES) do
      local room = pass == 1 and share[class] or most - #ids
      if room > 0 then
        for _, id in ipairs(pop(tenant, class, room, newest)) do
          ids[#ids + 1] = id
        end
      end
    end
  end
  return ids
end

-- What is known of earlier attempts, for the answer table.
local function past_of(id, job)
  local refused = later_word(job, 'refused')
  if job.ambiguous == '0' and refused == '-' then
    return '-' -- most jobs
  end
  return content_of(id, job) .. ' ' .. later_word(job, 'doubt') .. ' ' .. refused
end

local function hand_out(tenant, id, token, probe, restored)
  local job = expect(id, 'ready')
  if not job then
    return
  end
  book(tenant, 'ready', job, -1)
  job.state, job.at, job.token = 'in_flight', lease_end, token
  carry_doubt(id, job, restored)
  job.attempts = integer(tonumber(job.attempts) + 1)
  job.attempts_total = integer(tonumber(job.attempts_total) + 1)
  write_live(id, job)
  add_later(key('in_flight'), lease_end, id)
  add_later(key('places', tenant), lease_end, id)
  book(tenant, 'in_flight', job, 1)
  for _, value in ipairs({
    id, token, job.attempts, job.strikes, job.reason, past_of(id, job), job.epoch, job.accepted, job.job_class,
    probe and '1' or '0', job.attempts_total, later_word(job, 'trace'), job.body,
  }) do
    reply[#reply + 1] = value
  end
  jobs = jobs + 1
end

-- The pace after a 429: slowed down at `since`, climbing back linearly since then. Whole µs: beside a time of day
-- in µs a fraction is rounded away, and a request that is due would be a hair short of allowed, again and again.
local function slowed(rate_us, factor, since_us)
  if not factor then
    return rate_us
  end
  return math.ceil(rate_us / math.min(1, factor + math.max(0, NOW_US - since_us) / (CLIMB_MS * 1000)))
end

-- The tenant's budget in the last minute or two, as far as jobs waited for it: in two halves, when the present one
-- began, what was spent in it and what was lost because nobody claimed, then both of the half before (µs).
local function used_after(stored, spent_us, lost_us)
  local began, spent, lost, spent_before, lost_before =
    string.match(stored or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  local age = began and NOW_US - began or -1
  if age < 0 then
    began, spent, lost, spent_before, lost_before = NOW_US, 0, 0, 0, 0
  elseif age >= USE_US then
    began, spent, lost, spent_before, lost_before = NOW_US, 0, 0, spent, lost
  end
  return string.format('%d %d %d %s %s', began, spent + spent_us, lost + math.min(lost_us, USE_US), spent_before,
    lost_before)
end

-- Serve one tenant, whose turn was at `turn_us`; return when its next turn is (µs), or nil when it has no ready job left.
local function serve(tenant, most, turn_us)
  local state = redis.call('HMGET', key('tenant', tenant), 'paused', 'frozen_until', 'hold', 'probe_at', 'tat',
    'rate_us', 'burst', 'cap', 'cursor', 'factor', 'window', 'doubt', 'doubt_since', 'frozen_for', 'probe_in',
    'used', 'capped_since', 'pauses')
  local frozen_us = time_ahead(tenant, 'frozen_until', state[2], state[14]) * 1000
  local held = state[3]
  local probe_us = time_ahead(tenant, 'probe_at', state[4], state[15]) * 1000
  local restored = restored_of(tenant, { state[12], state[13] })
  local rate_us = tonumber(state[6] or ARGV[4])
  local burst = tonumber(state[7] or ARGV[5])
  local cap = math.min(tonumber(state[8] or ARGV[6]), tonumber(state[11]) or FIRST_WINDOW)
  local cursor = tonumber(state[9]) or 0
  if state[1] then
    return nil -- paused: resume gives the turn back
  end
  if frozen_us > NOW_US then
    return frozen_us
  end
  if held then
    if probe_us > NOW_US then
      return probe_us
    end
  end
  local room = cap - redis.call('ZCOUNT', key('places', tenant), '(' .. integer(NOW_MS), '+inf')
  -- Since when it could have been served: its turn moves on while it is at its cap, and lies before a pause at times.
  local since_us = math.max(math.min(turn_us, tonumber(state[17]) or turn_us), frozen_us,
    resumed_ms(pauses_of(state[18])) * 1000)
  if room < 1 and not held then
    redis.call('HSET', key('tenant', tenant), 'capped', 1, 'capped_since', integer(since_us))
    return NOW_US + CAPPED_US
  end
  most = math.min(most, not held and room or held == THROTTLED and 1 or PROBES)
  local tat, lost_us
  if rate_us > 0 then
    -- GCRA: `tat` is when the budget would be whole again if nothing more were sent; at the present pace that takes
    -- no longer than `burst` requests.
    rate_us = slowed(rate_us, tonumber(state[10]), frozen_us)
    local whole_us = tonumber(state[5]) or 0
    tat = math.max(whole_us, NOW_US)
    lost_us = math.max(0, NOW_US - math.max(whole_us, since_us))
    if tat > NOW_US + burst * rate_us then
      tat = NOW_US + burst * rate_us
      redis.call('HSET', key('tenant', tenant), 'tat', integer(tat))
    end
    local allowed = math.floor((NOW_US + burst * rate_us - tat) / rate_us)
    if allowed < 1 then
      return tat - (burst - 1) * rate_us
    end
    most = math.min(most, allowed)
  end

  local ids = take(tenant, most, cursor, held and held ~= OUTAGE)
  if state[17] then
    redis.call('HDEL', key('tenant', tenant), 'capped_since')
  end
  if #ids == 0 then
    return nil
  end
  count(tenant, 'claimed', #ids)
  local last = tonumber(redis.call('INCRBY', key('sequence'), #ids))
  for i, id in ipairs(ids) do
    hand_out(tenant, id, integer(last - #ids + i), held, restored)
  end
  local write = { 'cursor', integer((cursor + #ids) % #SLOTS) }
  if rate_us > 0 then
    write[#write + 1], write[#write + 2] = 'tat', integer(tat + #ids * rate_us)
    if not held then
      write[#write + 1], write[#write + 2] = 'used', used_after(state[16], #ids * rate_us, lost_us)
    end
  end
  if held then
    -- One group of probes at a time: the next one when all are settled, or their lease has ended.
    for _, value in ipairs({
      'probe_at', lease_end, 'probe_in', integer(lease_ms), 'probe_token', integer(last - #ids + 1), 'probing', #ids,
      'probed', '-',
    }) do
      write[#write + 1] = value
    end
  end
  redis.call('HSET', key('tenant', tenant), unpack(write))
  if held then
    return tonumber(lease_end) * 1000
  end
  return #ids == most and NOW_US or nil
end

local eligible = redis.call('ZCOUNT', key('turn'), '-inf', integer(DUE_US))
if eligible > 0 and wanted > 0 then
  local share = math.ceil(wanted / math.min(eligible, VISITS))
  local visited = redis.call('ZRANGEBYSCORE', key('turn'), '-inf', integer(DUE_US), 'WITHSCORES', 'LIMIT', 0, VISITS)
  for i = 1, #visited / 2 do
    local tenant = visited[2 * i - 1]
    if jobs >= wanted then
      break
    end
    local next_us = serve(tenant, math.min(share, wanted - jobs), tonumber(visited[2 * i]))
    if not next_us then
      redis.call('ZREM', key('turn'), tenant)
    else
      -- Served last, next in turn last: + i keeps the order of this round.
      redis.call('ZADD', key('turn'), turn_at(next_us + i), tenant)
    end
  end
end

local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
if head[2] then
  reply[1] = math.max(0, math.ceil((tonumber(head[2]) - DUE_US) / 1000))
end
close_books()
return reply
