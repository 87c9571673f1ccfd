-- Accept a batch of conversions: record, index, books and wake-up in one step, or a duplicate or conflict.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 traceparent of the batch or '-' | then per item, 6 each:
--         id | fingerprint | amount or '-' | currency or '-' | not before (ms, 0: now) | body
-- Reply one string per item: 'accepted:<state>' | 'duplicate:<state>' | 'conflict:<state>', where <state> is
--       the first job's; 'newer:' where a newer release wrote the first job's record, which says that there is one and
--       no more; or the single string 'full' when admission is closed: nothing was stored.
-- Not allow-oom: a Redis at its limit refuses the whole batch before any write.

local ITEM, FIRST = 6, 4
if (#ARGV - FIRST + 1) % ITEM ~= 0 then
  return redis.error_reply('ERR enqueue: items come in groups of ' .. ITEM)
end
-- An error halfway would not be rolled back: whatever could raise one is looked at before the first write.
for base = FIRST, #ARGV, ITEM do
  local id, amount, due_ms = ARGV[base], ARGV[base + 2], ARGV[base + 4]
  if not string.find(id, '/', 2, true) or not (amount == '-' or string.find(amount, '^%d+%.?%d*$'))
      or not tonumber(due_ms) then
    return redis.error_reply('ERR enqueue: item ' .. (base - FIRST) / ITEM + 1 .. ' has no sound id, amount or time')
  end
end
if redis.call('EXISTS', key('admission')) == 1 then
  return 'full'
end

-- A word of the header, of known length: what is no traceparent is dropped.
local trace = #ARGV[3] == 55 and string.find(ARGV[3], '^[%x-]+$') and ARGV[3] or '-'
local replies, known, woken = {}, {}, {}
for base = FIRST, #ARGV, ITEM do
  local id, fingerprint, due_ms = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 4])
  local tenant = tenant_of(id)
  local first = read_job(id)
  local reply
  if not first then
    local ready = due_ms <= NOW_MS
    local job = {
      job_class = 'live', fingerprint = fingerprint, amount = ARGV[base + 2], currency = ARGV[base + 3],
      accepted = integer(NOW_MS), attempts = '0', attempts_total = '0', token = '0', ambiguous = '0',
      strikes = '0', epoch = integer(ready and NOW_MS or due_ms), redrives = '0', reason = '-',
      trace = trace, body = ARGV[base + 5],
    }
    book(tenant, 'accepted', job, 1)
    if ready then
      to_ready(id, job, NOW_US + (base - FIRST) / ITEM)
      woken[tenant] = true
    else
      to_scheduled(id, job, due_ms)
    end
    known[tenant] = true
    reply = 'accepted:' .. job.state
  elseif first.state == NEWER then
    reply = 'newer:'
  elseif first.fingerprint == fingerprint then
    count(tenant, 'duplicates', 1)
    reply = 'duplicate:' .. first.state
  else
    count(tenant, 'conflicts', 1)
    reply = 'conflict:' .. first.state
  end
  replies[#replies + 1] = reply
end

for tenant in pairs(known) do
  redis.call('SADD', key('tenants'), tenant)
end
for tenant in pairs(woken) do
  queue_turn(tenant, ARGV[2])
end
close_books()
return replies
