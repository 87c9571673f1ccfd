-- Shared by every script: clock, records, indexes, books, wake-ups. Put in front of each script by
-- contract/scripts.py, after the generated NAMES, FORMAT_LIVE, NEWER, parse_job, live_record and later_word; a script
-- gets only what it uses.
-- KEYS[1] is always the namespace's prefix: every other key starts with it and shares its hash slot.
-- ARGV[1] is always an explicit now in ms for tests that live through hours, or '' for Redis' own clock.

local PREFIX = KEYS[1]
local WAKEUPS_WANTED = 4 -- as many waiting wake-ups start as many processes; more would only be read and dropped
local HISTORY_KEPT = 100 -- entries a job keeps at most; attempts are capped, so only many redrives reach it
local EXACT_DIGITS = 15 -- of a whole number that Lua's numbers hold with room to add
local BUCKET_MS = 3600000
local CLIMB_MS = 300000 -- after a 429 the pace climbs from nothing to its full rate in this time
local FIRST_WINDOW = 5 -- requests in flight of a tenant that has not yet shown that it answers

local function key(name, rest)
  return PREFIX .. NAMES[name] .. (rest or '')
end

local function integer(number)
  return string.format('%d', number)
end

-- Add pairs of score and member to a sorted set. Lua's stack bounds what one call may carry.
local function add_scores(index, pairs_, ...)
  for first = 1, #pairs_, 1000 do
    local call = { 'ZADD', index, ... }
    for i = first, math.min(first + 999, #pairs_) do
      call[#call + 1] = pairs_[i]
    end
    redis.call(unpack(call))
  end
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

-- The record of a job as `parse_job` reads it, or nil if there is none. Of one that a newer release wrote nothing is
-- known, and its state is NEWER; one that cannot be read has no state.
local function read_job(id)
  local raw = redis.call('GET', key('job', id))
  return raw and parse_job(raw) or nil
end

local function write_live(id, job)
  redis.call('SET', key('job', id), live_record(job))
end

-- Books -----------------------------------------------------------------------------------------------
-- Jobs and money by state. Money is exact: an amount is cut into three limbs (10^9 units, units, 10^-9
-- units) that are summed apart as integers; below 10^9 each, they cannot overflow before 9 * 10^9 jobs.
-- Collected in a script and written at its end: one HINCRBY a field, however large the batch.

local books = {}

local function column_of(tenant, field)
  local book = books[tenant]
  if not book then
    book = {}
    books[tenant] = book
  end
  local column = book[field]
  if not column then
    column = { jobs = 0, money = {} }
    book[field] = column
  end
  return column
end

local function count(tenant, field, delta)
  local column = column_of(tenant, field)
  column.jobs = column.jobs + delta
end

local function limbs(amount)
  local whole, fraction = string.match(amount, '^(%d+)%.?(%d*)$')
  local nano = fraction == '' and 0 or tonumber(fraction) * 10 ^ (9 - #fraction)
  if #whole <= 9 then
    return 0, tonumber(whole), nano
  end
  return tonumber(string.sub(whole, 1, -10)), tonumber(string.sub(whole, -9)), nano
end

-- Add (sign 1) or take away (sign -1) one job under `field`.
local function book(tenant, field, job, sign)
  local column = column_of(tenant, field)
  column.jobs = column.jobs + sign
  if job.amount ~= '-' then
    local sum = column.money[job.currency]
    if not sum then
      sum = { 0, 0, 0 }
      column.money[job.currency] = sum
    end
    local billions, units, nano = limbs(job.amount)
    sum[1], sum[2], sum[3] = sum[1] + sign * nano, sum[2] + sign * units, sum[3] + sign * billions
  end
end

-- Add to fields of one hash: a read and a write for all of them, because in a script each command that writes costs
-- several µs. A sum that Lua's numbers could round is left to HINCRBY.
local function add_to_fields(hash, fields, deltas)
  local old, write = redis.call('HMGET', hash, unpack(fields)), { 'HSET', hash }
  for i, field in ipairs(fields) do
    local sum = old[i] or '0'
    if #sum > EXACT_DIGITS or not tonumber(sum) then
      redis.call('HINCRBY', hash, field, integer(deltas[i]))
    else
      write[#write + 1], write[#write + 2] = field, integer(sum + deltas[i])
    end
  end
  if #write > 2 then
    redis.call(unpack(write))
  end
end

local function close_books()
  local moved = false
  for tenant, book in pairs(books) do
    local fields, deltas = {}, {}
    local function add(field, delta)
      if delta ~= 0 then
        fields[#fields + 1], deltas[#deltas + 1] = field, delta
      end
    end
    for field, column in pairs(book) do
      add(field, column.jobs)
      for currency, sum in pairs(column.money) do
        for limb = 0, 2 do
          add(field .. ':' .. currency .. ':' .. limb, sum[limb + 1])
        end
      end
    end
    if #fields > 0 then
      add_to_fields(key('ledger', tenant), fields, deltas)
      moved = true
    end
  end
  if moved then
    redis.call('INCR', key('moves'))
  end
end

-- Wake-ups --------------------------------------------------------------------------------------------

-- Add up to `most` wake-ups, as long as fewer than wanted are waiting.
local function ring(envelope, most)
  local missing = WAKEUPS_WANTED - redis.call('LLEN', key('wakeups'))
  for _ = 1, math.min(missing, most) do
    local tag = integer(redis.call('INCR', key('sequence')))
    redis.call('LPUSH', key('wakeups'), (string.gsub(envelope, '@TAG@', tag)))
  end
end

-- Give each of the tenants (a set) a turn, unless it has one; wake workers if a turn may be taken now.
local function queue_turns(tenants, envelope)
  local turns, now = {}, integer(NOW_US)
  for tenant in pairs(tenants) do
    turns[#turns + 1], turns[#turns + 2] = now, tenant
  end
  if #turns == 0 then
    return
  end
  add_scores(key('turn'), turns, 'NX')
  local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
  if tonumber(head[2]) <= NOW_US then
    ring(envelope, #turns / 2)
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
