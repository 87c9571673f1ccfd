-- The prefix of all keys, the key builder, whole numbers, and the clock. The loader puts it in front of every script.
-- KEYS[1] is always the prefix of the namespace: every other key starts with it and shares its hash slot.
-- ARGV[1] is always an explicit time in ms, for tests that span hours, or '' for the clock of Redis.

local PREFIX = KEYS[1]

-- Called with a name of contract/keys.py, which `load_script` replaces by the key's text.
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
