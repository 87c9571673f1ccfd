-- Correct a dead letter and give it a fresh attempt budget: same job, same identity, history kept.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 id | 4 SHA-1 of the record the operator saw | 5 body | 6 amount or '-'
--       7 currency or '-' | 8 fingerprint of the body | 9 entry in the job's history (JSON without its end)
--       10 entry for the audit log | 11 whether a field changes on which Trackdesk dedupes (0/1)
-- Reply 'ok' | 'unknown' | 'changed' (it is not what the operator saw) | 'refused:<state>' | 'in_doubt' (an attempt may
--       have landed: with another dedupe key Trackdesk would record the sale twice)
-- The record keeps the fingerprint of the shop's original, so that repeating the enqueue stays a duplicate; what the
-- body is now is kept beside it, for the audit. Money moves with it: accepted is corrected too.
-- uses: records, tenant_times, doubt, ledger, wakeups, transitions, redrive

local id, amount, new_key = ARGV[3], ARGV[6], ARGV[11] == '1'
local raw = redis.call('GET', key('job', id))
local job = raw and read_job(id)
if not job then
  return 'unknown'
elseif job.state ~= 'dead' then
  return 'refused:' .. (job.state or 'unreadable')
elseif redis.sha1hex(raw) ~= ARGV[4] then
  return 'changed'
elseif not (amount == '-' or string.find(amount, '^%d+%.?%d*$')) then
  return redis.error_reply('ERR edit: the amount is none')
end
local tenant = tenant_of(id)
carry_doubt(id, job, restored_of(tenant, redis.call('HMGET', key('tenant', tenant), 'doubt', 'doubt_since')))
if new_key and job.ambiguous == '1' then
  return 'in_doubt'
elseif new_key and later_word(job, 'refused') ~= '-' then
  set_later_word(job, 'refused', '-') -- what was refused was another conversion, for Trackdesk
end
leave(id, job)
book(tenant, 'accepted', job, -1)
job.body, job.amount, job.currency = ARGV[5], amount, ARGV[7]
book(tenant, 'accepted', job, 1)
redis.call('HSET', key('edited'), id, ARGV[8])
redrive(id, job, NOW_US, ARGV[9])
count(tenant, 'edited', 1)
redis.call('RPUSH', key('audit_log_waiting'), ARGV[10])
queue_turns({ [tenant] = true }, ARGV[2])
close_books()
return 'ok'
