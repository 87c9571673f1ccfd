-- The ended pauses of a tenant: its field `pauses`, newest first, as "from-to from-to …" in ms.

local PAUSES_KEPT = 16

-- A list of { from, to }, newest first.
local function pauses_of(stored)
  local pauses = {}
  for from, to in string.gmatch(stored or '', '(%d+)-(%d+)') do
    pauses[#pauses + 1] = { tonumber(from), tonumber(to) }
  end
  return pauses
end

-- When the last pause ended; 0 if there was none.
local function resumed_ms(pauses)
  return pauses[1] and pauses[1][2] or 0
end

-- The field with one more pause, which ends now.
local function pauses_with(stored, from_ms)
  local words = { integer(math.min(tonumber(from_ms) or NOW_MS, NOW_MS)) .. '-' .. integer(NOW_MS) }
  for word in string.gmatch(stored or '', '%S+') do
    if #words < PAUSES_KEPT then
      words[#words + 1] = word
    end
  end
  return table.concat(words, ' ')
end
