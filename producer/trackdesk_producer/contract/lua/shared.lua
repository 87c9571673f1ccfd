-- Shared by every script: clock, records, indexes, books, wake-ups. Put in front of each script by
-- contract/scripts.py, after the generated NAMES, FORMAT_*, NEWER and FIELDS.
-- KEYS[1] is always the namespace's prefix: every other key starts with it and shares its hash slot.
-- ARGV[1] is always an explicit now in ms for tests that live through hours, or '' for Redis' own clock.

local PREFIX = KEYS[1]
local WAKEUPS_WANTED = 4 -- as many waiting wake-ups start as many processes; more would only be read and dropped
local HISTORY_KEPT = 100 -- entries a job keeps at most; attempts are capped, so only many redrives reach it
local BUCKET_MS = 3600000
local CLIMB_MS = 300000 -- after a 429 the pace climbs from nothing to its full rate in this time
local FIRST_WINDOW = 5 -- requests in flight of a tenant that has not yet shown that it answers

local function key(name, rest)
  return PREFIX .. NAMES[name] .. (rest or '')
end

local function integer(number)
  return string.format('%.0f', number)
end

-- Now in ms and in µs. The µs keep jobs of one ms in order.
local NOW_MS, NOW_US
do
  if ARGV[1] == '' then
    local time = redis.call('TIME')
    NOW_US = tonumber(time[1]) * 1000000 + tonumber(time[2])
    NOW_MS = math.floor(NOW_US / 1000)
  else
    NOW_MS = tonumber(ARGV[1])
    NOW_US = NOW_MS * 1000
  end
end

-- Records ---------------------------------------------------------------------------------------------

local function tenant_of(id)
  return string.match(id, '^[^/]+')
end

-- The record as a table (plus .body), or nil if there is none. Of one that a newer release wrote nothing is known,
-- and its state is NEWER.
local function read_job(id)
  local raw = redis.call('GET', key('job', id))
  if not raw then
    return nil
  end
  local cut = string.find(raw, '\n', 1, true)
  local head = cut and string.sub(raw, 1, cut - 1) or raw
  local job, names, i = {}, nil, 0
  for word in string.gmatch(head, '%S+') do
    i = i + 1
    if i == 1 then
      names = FIELDS[word]
      if not names then
        if string.find(word, '^t?%d+$') then
          return { state = NEWER, format = word }
        end
        names = FIELDS[FORMAT_TOMBSTONE] -- not ours; the audit names the record
      end
    end
    if names[i] then
      job[names[i]] = word
    else -- added by a newer release: kept as it is
      job.more = (job.more or '') .. ' ' .. word
    end
  end
  job.body = cut and string.sub(raw, cut + 1) or ''
  return job
end

local function write_live(id, job)
  local words = {}
  job.format = FORMAT_LIVE
  for i, name in ipairs(LIVE_FIELDS) do
    words[i] = job[name] or (i > LIVE_BASE and '-')
  end
  redis.call('SET', key('job', id), table.concat(words, ' ') .. (job.more or '') .. '\n' .. job.body)
end

-- Books -----------------------------------------------------------------------------------------------
-- Jobs and money by state. Money is exact: an amount is cut into three limbs (10^9 units, units, 10^-9
-- units) that are summed apart as integers; below 10^9 each, they cannot overflow before 9 * 10^9 jobs.
-- Collected in a script and written at its end: one HINCRBY a field, however large the batch.

local books = {}

local function count(tenant, field, delta)
  local book = books[tenant]
  if not book then
    book = {}
    books[tenant] = book
  end
  book[field] = (book[field] or 0) + delta
end

local function limbs(amount)
  local whole, fraction = string.match(amount, '^(%d+)%.?(%d*)$')
  local units = tonumber(string.sub(whole, -9))
  local billions = #whole > 9 and tonumber(string.sub(whole, 1, -10)) or 0
  local nano = fraction == '' and 0 or tonumber(fraction .. string.rep('0', 9 - #fraction))
  return billions, units, nano
end

-- Add (sign 1) or take away (sign -1) one job under `field`.
local function book(tenant, field, job, sign)
  count(tenant, field, sign)
  if job.amount ~= '-' then
    local billions, units, nano = limbs(job.amount)
    local column = field .. ':' .. job.currency
    if billions > 0 then count(tenant, column .. ':2', sign * billions) end
    if units > 0 then count(tenant, column .. ':1', sign * units) end
    if nano > 0 then count(tenant, column .. ':0', sign * nano) end
  end
end

local function close_books()
  local moved = false
  for tenant, fields in pairs(books) do
    for field, delta in pairs(fields) do
      if delta ~= 0 then
        redis.call('HINCRBY', key('ledger', tenant), field, integer(delta))
        moved = true
      end
    end
  end
  if moved then
    redis.call('INCR', key('moves'))
  end
end

-- Wake-ups --------------------------------------------------------------------------------------------

local function ring(envelope)
  local missing = WAKEUPS_WANTED - redis.call('LLEN', key('wakeups'))
  if missing > 0 then
    local tag = integer(redis.call('INCR', key('sequence')))
    redis.call('LPUSH', key('wakeups'), (string.gsub(envelope, '@TAG@', tag)))
  end
end

-- Give the tenant a turn, unless it has one; wake a worker if the turn may be taken now.
local function queue_turn(tenant, envelope)
  if redis.call('ZADD', key('turn'), 'NX', integer(NOW_US), tenant) == 1
      or tonumber(redis.call('ZSCORE', key('turn'), tenant)) <= NOW_US then
    ring(envelope)
  end
end

-- Moves between the indexes. A caller that moves a job takes it out of its old index first (`leave`). ----

local function to_ready(id, job, at_us)
  local tenant = tenant_of(id)
  job.state, job.at, job.token = 'ready', integer(at_us), '0'
  write_live(id, job)
  redis.call('ZADD', key('ready', tenant .. ':' .. job.job_class), job.at, id)
  book(tenant, 'ready', job, 1)
end

local function to_scheduled(id, job, due_ms)
  job.state, job.at, job.token = 'scheduled', integer(due_ms), '0'
  write_live(id, job)
  redis.call('ZADD', key('scheduled'), job.at, id)
  book(tenant_of(id), 'scheduled', job, 1)
end

local function to_dead(id, job, reason)
  local tenant = tenant_of(id)
  job.state, job.at, job.token, job.reason = 'dead', integer(NOW_MS), '0', reason
  write_live(id, job)
  redis.call('ZADD', key('dead'), job.at, id)
  redis.call('ZADD', key('dead_group', tenant .. ':' .. reason), job.at, id)
  redis.call('HINCRBY', key('dead_groups'), tenant .. ':' .. reason, 1)
  book(tenant, 'dead', job, 1)
end

-- The end of a job: a tombstone for the dedupe window, filed by the hour in which it falls due.
local function to_terminal(id, job, state, reason, window_ms)
  local tenant = tenant_of(id)
  redis.call('SET', key('job', id), table.concat({
    FORMAT_TOMBSTONE, state, job.fingerprint, job.amount, job.currency, job.accepted, integer(NOW_MS),
    job.attempts_total, reason,
  }, ' '))
  redis.call('DEL', key('history', id))
  local due = math.ceil((NOW_MS + window_ms) / BUCKET_MS) * BUCKET_MS
  redis.call('ZADD', key('tombstones'), integer(due), integer(due))
  redis.call('RPUSH', key('tombstone_bucket', integer(due)), id)
  book(tenant, state, job, 1)
end

-- Take a job out of the index of its state and out of the books of that state.
local function leave(id, job)
  local tenant = tenant_of(id)
  if job.state == 'ready' then
    redis.call('ZREM', key('ready', tenant .. ':' .. job.job_class), id)
  elseif job.state == 'scheduled' then
    redis.call('ZREM', key('scheduled'), id)
  elseif job.state == 'in_flight' then
    redis.call('ZREM', key('in_flight'), id)
  elseif job.state == 'dead' then
    local group = tenant .. ':' .. job.reason
    redis.call('ZREM', key('dead'), id)
    redis.call('ZREM', key('dead_group', group), id)
    if redis.call('HINCRBY', key('dead_groups'), group, -1) <= 0 then
      redis.call('HDEL', key('dead_groups'), group)
    end
  end
  book(tenant, job.state, job, -1)
end

-- The job, if it is in `state` as the index it was found in says. One that a newer release wrote is set aside as it
-- is, books and all; `take_back` puts it where it belongs. Anything else means that something other than these scripts
-- wrote to Redis: the entry is dropped and counted, delivery goes on, the audit names it.
local function expect(id, state, index)
  local job = read_job(id)
  if job and job.state == state then
    return job
  end
  if index then
    redis.call('ZREM', index, id)
  end
  if job and job.state == NEWER then
    redis.call('ZADD', key('newer'), 'NX', integer(NOW_MS), id)
  else
    count(tenant_of(id), 'strays', 1)
  end
  return nil
end

local function note(id, entry)
  redis.call('RPUSH', key('history', id), entry)
  redis.call('LTRIM', key('history', id), -HISTORY_KEPT, -1)
end
