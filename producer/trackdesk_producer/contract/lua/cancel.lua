-- Cancel jobs for their caller, as long as none can be at Trackdesk: never sent, or cleanly refused each time.
-- KEYS  1 prefix
-- ARGV  1 now | 2 dedupe window (ms) | 3… ids
-- Reply per id: 'cancelled' | 'unknown' | 'refused:<state>' (in flight, ended, or an attempt may have landed; no state: its
--       record cannot be read)
-- uses: records, tenant_times, doubt, ledger, transitions

local window_ms = tonumber(ARGV[2])

local function restored_ms(tenant)
  return restored_of(tenant, { redis.call('HGET', key('tenant', tenant), 'doubt') })[1]
end

local replies = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local job = read_job(id)
  if not job then
    replies[#replies + 1] = 'unknown'
  elseif job.state == 'cancelled' then
    replies[#replies + 1] = 'cancelled'
  elseif (job.state == 'ready' or job.state == 'scheduled') and job.ambiguous == '0'
      and not may_be_forgotten(job, restored_ms(tenant_of(id))) then
    leave(id, job)
    to_terminal(id, job, 'cancelled', 'by_caller', window_ms)
    replies[#replies + 1] = 'cancelled'
  else
    replies[#replies + 1] = 'refused:' .. (job.state or '')
  end
end
close_books()
return replies
