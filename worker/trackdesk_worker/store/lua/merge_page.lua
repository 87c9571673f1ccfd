-- Read one page of several sorted sets merged into one order, by score, then by the bytes of the id. Changes nothing.
-- KEYS  1 prefix
-- ARGV  1 now | 2 'up' or 'down' | 3 least and 4 greatest score ('-inf', '+inf')
--       5 score and 6 id to go on behind ('' both: from the beginning) | 7 entries at most
--       8… names of the sets, without the prefix
-- Reply flat: id, score, id, score…
-- Cost O(sets · log n + entries · log sets), also where a million entries share one score: the place of an entry among
-- its equals is found by halving, so that no page begins with what the pages before held.

local down, low, high = ARGV[2] == 'down', ARGV[3], ARGV[4]
local after, after_id, limit = ARGV[5], ARGV[6], tonumber(ARGV[7])
local sets = #ARGV - 7
local chunk = math.max(2, math.min(limit, math.ceil(2 * limit / math.max(1, sets))))

-- Redis orders equal scores by bytes; Lua's < would ask the server's locale.
local function bytes_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- How many entries of the set come before (after, after_id); with the entry itself, if `itself`.
local function entries_before(name, itself)
  local lowest = redis.call('ZCOUNT', name, '-inf', '(' .. after)
  local highest = lowest + redis.call('ZCOUNT', name, after, after)
  while lowest < highest do
    local middle = math.floor((lowest + highest) / 2)
    local id = redis.call('ZRANGE', name, middle, middle)[1]
    if bytes_before(id, after_id) or (itself and id == after_id) then
      lowest = middle + 1
    else
      highest = middle
    end
  end
  return lowest
end

local function advance(stream)
  stream.at = stream.at + 1
  if stream.at * 2 > #stream.read then
    if stream.first >= stream.last then
      return false
    end
    local from, to = stream.first, math.min(stream.last, stream.first + chunk) - 1
    if down then
      from, to = math.max(stream.first, stream.last - chunk), stream.last - 1
      stream.last = from
    else
      stream.first = to + 1
    end
    stream.read, stream.at = redis.call('ZRANGE', stream.name, from, to, 'WITHSCORES'), 1
  end
  local place = down and #stream.read / 2 - stream.at + 1 or stream.at
  stream.id, stream.text = stream.read[2 * place - 1], stream.read[2 * place]
  stream.score = tonumber(stream.text)
  return true
end

local function first_of(a, b)
  if a.score ~= b.score then
    return (a.score < b.score) ~= down
  end
  return a.id ~= b.id and bytes_before(a.id, b.id) ~= down
end

local heap = {}
local function sink(place)
  while true do
    local least = place
    for child = 2 * place, 2 * place + 1 do
      if heap[child] and first_of(heap[child], heap[least]) then
        least = child
      end
    end
    if least == place then
      return
    end
    heap[place], heap[least] = heap[least], heap[place]
    place = least
  end
end

for i = 1, sets do
  local name = PREFIX .. ARGV[7 + i]
  local first = low == '-inf' and 0 or redis.call('ZCOUNT', name, '-inf', '(' .. low)
  local last = high == '+inf' and redis.call('ZCARD', name) or redis.call('ZCOUNT', name, '-inf', high)
  if after ~= '' and first < last then
    if down then
      last = math.min(last, entries_before(name, false))
    else
      first = math.max(first, entries_before(name, true))
    end
  end
  local stream = { name = name, first = first, last = last, read = {}, at = 0 }
  if advance(stream) then
    heap[#heap + 1] = stream
  end
end
for place = math.floor(#heap / 2), 1, -1 do
  sink(place)
end

local reply = {}
while limit > 0 and #heap > 0 do
  local stream = heap[1]
  local size = #reply
  reply[size + 1], reply[size + 2] = stream.id, stream.text
  if not advance(stream) then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  sink(1)
  limit = limit - 1
end
return reply
