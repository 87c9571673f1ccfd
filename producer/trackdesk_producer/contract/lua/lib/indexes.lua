-- Changes of sorted sets and tombstone buckets. A script collects them; `close_books` writes them at the end, because
-- each writing command inside a script costs several µs.

local BUCKET_MS = 3600000 -- tombstones are pruned by the hour

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
