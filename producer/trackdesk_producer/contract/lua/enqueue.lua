-- Accept a batch of conversions: record, index, books and wake-up in one step, or a duplicate or conflict.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 traceparent of the batch or '-' | then per item, 6 each:
--         id | fingerprint | amount or '-' | currency or '-' | not before (ms, 0: now) | body
-- Reply one string per item: 'accepted:<state>' | 'duplicate:<state>' | 'conflict:<state>', where <state> is
--       the first job's, or empty if its record cannot be read; 'newer:' where a newer release wrote the first
--       job's record, which says that there is one and no more; or the single string 'full' when admission is
--       closed: nothing was stored.
-- Not allow-oom: a Redis at its limit refuses the whole batch before any write.
-- uses: records, tombstones, indexes, ledger, wakeups

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
local now = integer(NOW_MS)
local job = {
  job_class = 'live', accepted = now, attempts = '0', attempts_total = '0', token = '0', ambiguous = '0',
  strikes = '0', redrives = '0', reason = '-', more = ' ' .. trace,
}
local replies, known, woken = {}, {}, {}
for base = FIRST, #ARGV, ITEM do
  local id, due_ms = ARGV[base], tonumber(ARGV[base + 4])
  local tenant = tenant_of(id)
  job.fingerprint, job.amount, job.currency = ARGV[base + 1], ARGV[base + 2], ARGV[base + 3]
  job.body = ARGV[base + 5]
  if due_ms <= NOW_MS then
    job.state, job.at, job.epoch = 'ready', integer(NOW_US + (base - FIRST) / ITEM), now
  else
    job.state, job.at, job.epoch = 'scheduled', ARGV[base + 4], ARGV[base + 4]
  end
  -- In one call: the record if there is none, else the one there is.
  local found = redis.pcall('SET', key('job', id), live_record(job), 'NX', 'GET')
  local verdict, state = 'accepted:', job.state
  if found then
    local first = parse_job(type(found) == 'string' and found or '')
    if first.state == NEWER then
      verdict, state = 'newer:', ''
    else
      local same = same_content(first, job.fingerprint)
      verdict, state = same and 'duplicate:' or 'conflict:', first.state or ''
      count(tenant, same and 'duplicates' or 'conflicts', 1)
    end
  else
    if state == 'ready' then
      add_later(key('ready', tenant .. ':live'), job.at, id)
      woken[tenant] = true
    else
      add_later(key('scheduled'), job.at, id)
    end
    book(tenant, 'accepted', job, 1)
    known[tenant] = true
    book(tenant, state, job, 1)
  end
  replies[#replies + 1] = verdict .. state
end

close_books() -- first: without its place in an index a record is a sale that nobody sends
local tenants = {}
for tenant in pairs(known) do
  tenants[#tenants + 1] = tenant
end
call_in_parts(tenants, 'SADD', key('tenants'))
queue_turns(woken, ARGV[2])
return replies
