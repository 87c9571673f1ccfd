-- Shared by every script: clock, records, indexes, books, wake-ups. Put in front of each script by
-- contract/scripts.py, after the generated NAMES, NEWER, parse_job, live_record, tombstone and what else stands in
-- contract/record.py and contract/tombstone.py; a script gets only what it uses.
-- KEYS[1] is always the namespace's prefix: every other key starts with it and shares its hash slot.
-- ARGV[1] is always an explicit now in ms for tests that live through hours, or '' for Redis' own clock.

local PREFIX = KEYS[1]
local WAKEUPS_WANTED = 4 -- as many waiting wake-ups start as many processes; more would only be read and dropped
local HISTORY_KEPT = 100 -- entries a job keeps at most; attempts are capped, so only many redrives reach it
local EXACT_DIGITS = 15 -- of a whole number that Lua's numbers hold with room to add
local BUCKET_MS = 3600000
local CLIMB_MS = 300000 -- after a 429 the pace climbs from nothing to its full rate in this time
local FIRST_WINDOW = 5 -- requests in flight of a tenant that has not yet shown that it answers

-- Called with a name of contract/keys.py, in place of which `load_script` puts what it stands for.
local function key(name, rest)
  return PREFIX .. name .. (rest or '')
end

local function integer(number)
  return string.format('%d', number)
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
-- known, and its state is NEWER; one that cannot be read has no state: an error would stop all the other jobs too.
local function read_job(id)
  local raw = redis.pcall('GET', key('job', id))
  return raw and parse_job(type(raw) == 'string' and raw or '') or nil
end

-- Whether an operator said, since the job was accepted or last redriven, that the store may have forgotten things
-- (`restored`): then it counts as sent, and as ambiguous. A redrive or an edit carries that into the record.
local function may_be_forgotten(job, restored_ms)
  restored_ms = tonumber(restored_ms) or -1
  return tonumber(job.accepted) <= restored_ms and (job.redrives == '0' or tonumber(job.epoch) <= restored_ms)
end

-- The beginning of the fingerprint of what the job's body says now: an operator's correction is kept beside it.
local function content_of(id, job)
  local corrected = job.redrives ~= '0' and redis.call('HGET', key('edited'), id)
  return string.sub(corrected or job.fingerprint, 1, FINGERPRINT_KEPT)
end

-- The job may be at Trackdesk with its present content (contract/doubt.py). `mark` is FORGOTTEN if the store may have
-- forgotten what was sent, else ''.
local function add_doubt(id, job, mark)
  local content = content_of(id, job) .. ':' .. (job.amount == '-' and '-' or job.amount .. job.currency)
  local known = later_word(job, 'doubt')
  if known == '-' and job.ambiguous == '1' then
    mark = FORGOTTEN -- a release before this word marked it, and did not say with which content
  end
  job.ambiguous = '1'
  local _, commas = string.gsub(known, ',', '')
  if known == '-' then
    set_later_word(job, 'doubt', mark .. content)
  elseif commas + 1 < CONTENTS_KEPT and not string.find(',' .. known .. ',', ',' .. mark .. content .. ',', 1, true) then
    set_later_word(job, 'doubt', known .. ',' .. mark .. content)
  end
end

-- Write into the record what else makes the job ambiguous, before it is sent again or its content changes. `restored`:
-- when the tenant's store was restored, and since when it forgot things, if that is known: a refusal since then was none.
local function carry_doubt(id, job, restored)
  if may_be_forgotten(job, restored[1]) then
    add_doubt(id, job, FORGOTTEN)
    local refused = tonumber(later_word(job, 'refused'))
    if refused and restored[2] and refused >= tonumber(restored[2]) then
      set_later_word(job, 'refused', '-')
    end
  elseif job.ambiguous == '1' and later_word(job, 'doubt') == '-' then
    add_doubt(id, job, FORGOTTEN)
  end
end

local function write_live(id, job)
  redis.call('SET', key('job', id), live_record(job))
end

-- Indexes ---------------------------------------------------------------------------------------------
-- What leaves and enters them is collected in a script and written at its end, by `close_books`: in a script each
-- command that writes costs several µs.

local added, removed, ended = {}, {}, {}

-- Call a command with many more arguments, in as many calls as Lua's stack makes necessary.
local function call_in_parts(more, ...)
  for first = 1, #more, 1000 do
    local command = { ... }
    for i = first, math.min(first + 999, #more) do
      command[#command + 1] = more[i]
    end
    redis.call(unpack(command))
  end
end

local function add_later(index, score, id)
  local entries = added[index]
  if not entries then
    entries = {}
    added[index] = entries
  end
  entries[#entries + 1], entries[#entries + 2] = score, id
end

local function remove_later(index, id)
  local ids = removed[index]
  if not ids then
    ids = {}
    removed[index] = ids
  end
  ids[#ids + 1] = id
end

local function move_in_indexes()
  for index, ids in pairs(removed) do
    call_in_parts(ids, 'ZREM', index)
  end
  for index, entries in pairs(added) do
    call_in_parts(entries, 'ZADD', index)
  end
  for due, ids in pairs(ended) do
    redis.call('ZADD', key('tombstones'), due, due)
    call_in_parts(ids, 'RPUSH', key('tombstone_bucket', due))
  end
end

-- Books -----------------------------------------------------------------------------------------------
-- Jobs and money by state. Money is exact: an amount is cut into three limbs (10^9 units, units, 10^-9
-- units) that are summed apart as integers; below 10^9 each, they cannot overflow before 9 * 10^9 jobs.
-- Collected in a script and written at its end: one HINCRBY a field, however large the batch.

local books = {} -- by key

local function column_of(name, field)
  local book = books[name]
  if not book then
    book = {}
    books[name] = book
  end
  local column = book[field]
  if not column then
    column = { jobs = 0, money = {} }
    book[field] = column
  end
  return column
end

local function count_in(name, field, delta)
  local column = column_of(name, field)
  column.jobs = column.jobs + delta
end

local function count(tenant, field, delta)
  count_in(key('ledger', tenant), field, delta)
end

local function limbs(amount)
  local whole, fraction = string.match(amount, '^(%d+)%.?(%d*)$')
  local nano = fraction == '' and 0 or tonumber(fraction) * 10 ^ (9 - #fraction)
  if #whole <= 9 then
    return 0, tonumber(whole), nano
  end
  return tonumber(string.sub(whole, 1, -10)), tonumber(string.sub(whole, -9)), nano
end

-- Add (sign 1) or take away (sign -1) one job under `field`, in the books of that key.
local function book_in(name, field, job, sign)
  local column = column_of(name, field)
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

local function book(tenant, field, job, sign)
  book_in(key('ledger', tenant), field, job, sign)
end

-- Dead letters by cause: tenant, reason, HTTP status of the last attempt, currency, conversion type. -------
-- Each cause has a number, its jobs by time died and by amount, and its own sums, so that searches, causes and
-- previews read no records. Written for those who bury, a few µs a letter; who delivers pays nothing.

local CAUSES_KEPT = 2000 -- types are the shops' words: of further causes they are filed together, under this
local OTHER_TYPES = '*'
local LONGEST_TYPE = 100
local NO_AMOUNT = '-1' -- sorts below every amount
local REFERENCE_DIGITS = 20

local causes = {}

-- Add (sign 1) or take away (sign -1) one job of a cause.
local function book_cause(number, job, sign)
  local book = causes[number] or { jobs = 0, 0, 0, 0 }
  causes[number] = book
  book.jobs = book.jobs + sign
  if job.amount ~= '-' then
    local billions, units, nano = limbs(job.amount)
    book[1], book[2], book[3] = book[1] + sign * billions, book[2] + sign * units, book[3] + sign * nano
  end
end

local function close_causes()
  for number, book in pairs(causes) do
    local left = redis.call('HINCRBY', key('cause_books'), number .. ':jobs', integer(book.jobs))
    for limb = 1, 3 do
      if book[limb] ~= 0 then
        redis.call('HINCRBY', key('cause_books'), number .. ':' .. 3 - limb, integer(book[limb]))
      end
    end
    if left <= 0 then
      local name = redis.call('HGET', key('causes'), number)
      redis.call('HDEL', key('causes'), number)
      redis.call('HDEL', key('cause_numbers'), name or '')
      redis.call('HDEL', key('cause_books'), number .. ':jobs', number .. ':2', number .. ':1', number .. ':0')
    end
  end
end

local function conversion_of(job)
  local sound, conversion = pcall(cjson.decode, job.body)
  return sound and type(conversion) == 'table' and conversion or {}
end

-- What a person may be found by, hashed: so that no personal data stands outside the record.
local function references(id, conversion)
  local found = {}
  for _, field in ipairs({ 'cid', 'customerId' }) do
    local value = conversion[field]
    if type(value) == 'string' then
      found[#found + 1] = string.sub(redis.sha1hex(field .. '\31' .. value), 1, REFERENCE_DIGITS) .. id
    end
  end
  return found
end

local function status_of(id)
  local sound, entry = pcall(cjson.decode, redis.pcall('LINDEX', key('history', id), -1) or '')
  local status = sound and type(entry) == 'table' and tonumber(entry.status)
  return status and integer(status) or '-'
end

-- The number of a dead letter's cause, a new one if it is the first of its kind.
local function cause_of(id, job, conversion)
  local kind = conversion.conversionTypeCode
  if type(kind) ~= 'string' or #kind > LONGEST_TYPE or string.find(kind, '%c') then
    kind = OTHER_TYPES
  end
  local words = { tenant_of(id), job.reason, status_of(id), job.amount == '-' and '-' or job.currency, kind }
  local name = table.concat(words, '\31')
  local number = redis.call('HGET', key('cause_numbers'), name)
  if not number and redis.call('HLEN', key('cause_numbers')) >= CAUSES_KEPT then
    words[5] = OTHER_TYPES
    name = table.concat(words, '\31')
    number = redis.call('HGET', key('cause_numbers'), name)
  end
  if not number then
    number = integer(redis.call('INCR', key('sequence')))
    redis.call('HSET', key('cause_numbers'), name, number)
    redis.call('HSET', key('causes'), number, name)
  end
  return number
end

-- File a dead letter under its cause.
local function file_dead(id, job)
  local conversion = conversion_of(job)
  local number = cause_of(id, job, conversion)
  redis.call('HSET', key('cause_of'), id, number)
  redis.call('ZADD', key('cause', number .. ':died'), job.at, id)
  redis.call('ZADD', key('cause', number .. ':amount'), job.amount == '-' and NO_AMOUNT or job.amount, id)
  for _, reference in ipairs(references(id, conversion)) do
    redis.call('ZADD', key('dead_references'), 0, reference)
  end
  book_cause(number, job, 1)
end

local function unfile_dead(id, job)
  local number = redis.call('HGET', key('cause_of'), id)
  if number then -- else buried by a version before this; `adopt` had not come to it
    redis.call('HDEL', key('cause_of'), id)
    redis.call('ZREM', key('cause', number .. ':died'), id)
    redis.call('ZREM', key('cause', number .. ':amount'), id)
    for _, reference in ipairs(references(id, conversion_of(job))) do
      redis.call('ZREM', key('dead_references'), reference)
    end
    book_cause(number, job, -1)
  end
end

local function close_books()
  move_in_indexes()
  close_causes()
  local moved = false
  for name, book in pairs(books) do
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
      add_to_fields(name, fields, deltas)
      moved = true
    end
  end
  if moved then
    redis.call('INCR', key('moves'))
  end
end

-- Wake-ups --------------------------------------------------------------------------------------------

-- Clocks jump. A time that was stored lies further ahead than its rule allows if the clock was ahead then, and has been
-- put right since. It is found where it is read, and then counts from now.

local LOOK_AGAIN_US = 60000000 -- no turn lies further ahead: who waits longer is looked at meanwhile
local LONGEST_WAIT_MS = 3600000 -- of a tenant, where it is not stored with the time itself

local function turn_at(at_us)
  return integer(math.min(at_us, NOW_US + LOOK_AGAIN_US))
end

-- A time (ms) in the state of a tenant, stored when it was `ahead_ms` ahead.
local function time_ahead(tenant, field, at_ms, ahead_ms)
  local latest = NOW_MS + (tonumber(ahead_ms) or LONGEST_WAIT_MS)
  at_ms = tonumber(at_ms) or 0
  if at_ms > latest then
    at_ms = latest
    redis.call('HSET', key('tenant', tenant), field, integer(at_ms))
  end
  return at_ms
end

-- For `carry_doubt` and `may_be_forgotten`: when the tenant's store was restored, never later than now, and since when
-- it forgot things. `stored`: the tenant's fields doubt and doubt_since.
local function restored_of(tenant, stored)
  return { stored[1] and time_ahead(tenant, 'doubt', stored[1], 0), stored[2] }
end

-- Add up to `most` wake-ups, as long as fewer than wanted are waiting.
local function wake(envelope, most)
  local waiting = redis.pcall('LLEN', key('wakeups'))
  if type(waiting) ~= 'number' then
    return -- no list: the workers look for work themselves, and nothing here may fail of a wake-up
  end
  local missing = WAKEUPS_WANTED - waiting
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
  call_in_parts(turns, 'ZADD', key('turn'), 'NX')
  local head = redis.call('ZRANGE', key('turn'), 0, 0, 'WITHSCORES')
  if tonumber(head[2]) <= NOW_US then
    wake(envelope, #turns / 2)
  end
end

-- Moves between the indexes. A caller that moves a job takes it out of its old index first (`leave`). ----

local function to_ready(id, job, at_us)
  local tenant = tenant_of(id)
  job.state, job.at, job.token = 'ready', integer(at_us), '0'
  write_live(id, job)
  add_later(key('ready', tenant .. ':' .. job.job_class), job.at, id)
  book(tenant, 'ready', job, 1)
end

local function to_scheduled(id, job, delay_ms)
  job.state, job.at, job.token = 'scheduled', integer(NOW_MS + delay_ms), '0'
  write_live(id, job)
  add_later(key('scheduled'), job.at, id)
  add_later(key('retries'), integer(NOW_MS), id)
  book(tenant_of(id), 'scheduled', job, 1)
end

local function to_dead(id, job, reason)
  local tenant = tenant_of(id)
  job.state, job.at, job.token, job.reason = 'dead', integer(NOW_MS), '0', reason
  write_live(id, job)
  redis.call('ZADD', key('dead'), job.at, id)
  file_dead(id, job)
  book(tenant, 'dead', job, 1)
end

-- The end of a job: a tombstone for the dedupe window, filed by the hour in which it falls due.
local function to_terminal(id, job, state, reason, window_ms)
  redis.call('SET', key('job', id), tombstone(job, state, reason, NOW_MS))
  redis.call('DEL', key('history', id))
  if job.redrives ~= '0' then
    redis.call('HDEL', key('edited'), id)
  end
  local due = integer(math.ceil((NOW_MS + window_ms) / BUCKET_MS) * BUCKET_MS)
  ended[due] = ended[due] or {}
  table.insert(ended[due], id)
  book(tenant_of(id), state, job, 1)
end

-- Take a job out of the index of its state and out of the books of that state.
local function leave(id, job)
  local tenant = tenant_of(id)
  if job.state == 'ready' then
    remove_later(key('ready', tenant .. ':' .. job.job_class), id)
  elseif job.state == 'scheduled' then
    remove_later(key('scheduled'), id)
    remove_later(key('retries'), id)
  elseif job.state == 'in_flight' then
    remove_later(key('in_flight'), id)
    remove_later(key('places', tenant), id)
  elseif job.state == 'dead' then
    redis.call('ZREM', key('dead'), id)
    unfile_dead(id, job)
  end
  book(tenant, job.state, job, -1)
end

-- The job, if it is in `state` as the index it was found in says. One that a newer release wrote is set aside as it
-- is, books and all; `unpark` puts it where it belongs. Anything else means that something other than these scripts
-- wrote to Redis: the entry is dropped and counted, delivery goes on, the audit names it.
local function expect(id, state, index)
  local job = read_job(id)
  if job and job.state == state then
    return job
  end
  if index then
    redis.call('ZREM', index, id)
  end
  if state == 'in_flight' then
    redis.call('ZREM', key('places', tenant_of(id)), id) -- nobody sends what has no record: the place is free again
  elseif state == 'scheduled' then
    redis.call('ZREM', key('retries'), id)
  end
  if job and job.state == NEWER then
    redis.call('ZADD', key('newer'), 'NX', integer(NOW_MS), id)
  else
    count(tenant_of(id), 'orphaned_entries', 1)
  end
  return nil
end

-- What is no list was not written by these scripts: it stays as it is, and nothing is noted.
local function note(id, entry)
  redis.pcall('RPUSH', key('history', id), entry)
  redis.pcall('LTRIM', key('history', id), -HISTORY_KEPT, -1)
end
