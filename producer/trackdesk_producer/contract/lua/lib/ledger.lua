-- The ledger: jobs and money by state. Money is exact: an amount is split into three limbs (10^9 units, units, 10^-9
-- units) that are summed separately as integers; below 10^9 each, they cannot overflow before 9 * 10^9 jobs.
-- A script collects its changes; `close_books` writes them at the end: one write per hash, however large the batch.
-- uses: indexes

local EXACT_DIGITS = 15 -- of a whole number that Lua's numbers hold with room to add

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

-- Add (sign 1) or subtract (sign -1) one job under `field`, in the ledger stored at the key `name`.
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

-- Add to fields of one hash, with one read and one write for all of them, because each writing command inside a script
-- costs several µs. A sum that Lua's numbers could round goes through HINCRBY.
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

local before_closing = {} -- functions that `close_books` calls first; other library files add theirs

-- Write all collected changes. Every script that moves a job calls this last.
local function close_books()
  move_in_indexes()
  for _, close in ipairs(before_closing) do
    close()
  end
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
