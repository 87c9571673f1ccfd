-- The short records of jobs that have ended (contract/tombstone.py).

local LETTERS = { @letters@ }
local function tombstone(job, state, reason, now_ms)
  local letter, rest = LETTERS[state .. ':' .. reason], ''
  if not letter then
    letter, rest = LETTERS[state], ' ' .. job.attempts_total .. ' ' .. reason
  elseif job.attempts_total ~= '1' then
    rest = ' ' .. job.attempts_total
  end
  local accepted, worth = math.floor(job.accepted / 1000), '-'
  if job.amount ~= '-' then
    worth = job.amount .. job.currency
  end
  return '@tombstone_format@ ' .. letter .. string.sub(job.fingerprint, 1, FINGERPRINT_KEPT) .. ' ' .. worth
    .. string.format('%08x%x', accepted, math.max(0, math.floor(now_ms / 1000) - accepted)) .. rest
end

local function read_tombstone(raw, format)
  local letter, fingerprint, amount, currency, accepted, later, rest =
    string.match(raw, '^%S+ (%a)(%S*) ([%d.]*)([%u-]+)(%x%x%x%x%x%x%x%x)(%x+)(.*)$')
  local e = ({ @ends@ })[letter] -- built here, because few calls read a tombstone
  if e and (amount == '' or string.find(amount, '^%d+%.?%d*$')) then
    local attempts, reason = string.match(rest, '^ (%d+) ?(%S*)')
    accepted = tonumber(accepted, 16)
    return { format = format, ended = true, state = e[1], reason = e[2] or reason or '-', fingerprint = fingerprint,
      amount = amount == '' and '-' or amount, currency = currency, accepted = string.format('%d', accepted * 1000),
      at = string.format('%d', (accepted + tonumber(later, 16)) * 1000), attempts_total = attempts or '1',
      more = '', body = '' }
  end
end

local function same_content(first, fingerprint)
  if first.ended then
    fingerprint = string.sub(fingerprint, 1, FINGERPRINT_KEPT)
  end
  return first.fingerprint == fingerprint
end
