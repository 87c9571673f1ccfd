-- Dead letters by cause: tenant, reason, HTTP status of the last attempt, currency, conversion type. Each cause has a
-- number, its jobs by time of death and by amount, and its own sums, so that searches, causes and previews read no
-- records. Burying costs a few µs more per job; delivering costs nothing.
-- uses: records, ledger

local CAUSES_KEPT = 2000 -- shops choose the types: further causes share the type OTHER_TYPES
local LONGEST_TYPE = 100
local NO_AMOUNT = '-1' -- sorts below every amount

local causes = {}

-- Add (sign 1) or subtract (sign -1) one job of a cause.
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
before_closing[#before_closing + 1] = close_causes

local function conversion_of(job)
  local sound, conversion = pcall(cjson.decode, job.body)
  return sound and type(conversion) == 'table' and conversion or {}
end

-- Index entries by which a person's dead letters are found. They are hashed: personal data is stored in records only.
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

-- The number of a dead letter's cause; a new number if it is the first of its cause.
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

-- Add a dead letter to the indexes of its cause.
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
  if number then
    redis.call('HDEL', key('cause_of'), id)
    redis.call('ZREM', key('cause', number .. ':died'), id)
    redis.call('ZREM', key('cause', number .. ':amount'), id)
    for _, reference in ipairs(references(id, conversion_of(job))) do
      redis.call('ZREM', key('dead_references'), reference)
    end
    book_cause(number, job, -1)
  end
end
