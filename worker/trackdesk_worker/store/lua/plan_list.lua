-- Freeze some more of a plan's list: each job with the time it died, by which it will be known again.
-- KEYS  1 prefix
-- ARGV  1 now | 2 plan | 3 the list's cursor, as the caller saw it | 4 its cursor after these
--       5 whether they are the last (0/1) | then per job, 2 each: id | died (ms; '' for a job named one by one)
-- Reply number listed, or -1: another process was first, or the list is closed
-- A job of a filter that is no longer that dead letter is left out; a job named by its id gets its verdict now.
-- uses: records, ledger

local id = ARGV[2]
local plan, sums = key('plan', id), key('plan_sums', id)
local listed = redis.call('HMGET', plan, 'state', 'cursor')
if listed[1] ~= 'listing' or listed[2] ~= ARGV[3] then
  return -1
end
local listed = 0
for i = 6, #ARGV, 2 do
  local job_id, died = ARGV[i], ARGV[i + 1]
  local job = read_job(job_id)
  if job and job.state == 'dead' and (died == '' or job.at == died) then
    local tenant = tenant_of(job_id)
    redis.call('RPUSH', key('plan_items', id .. ':pending:' .. tenant), job.at .. ' ' .. job_id)
    redis.call('SADD', key('plan_tenants', id), tenant)
    book_in(sums, 'listed', job, 1)
    count_in(sums, 'tenant/' .. tenant, 1)
    count_in(sums, 'reason/' .. job.reason, 1)
    listed = listed + 1
  elseif died == '' then
    local verdict = 'refused:' .. (job and job.state or 'unknown')
    redis.call('RPUSH', key('plan_items', id .. ':refused'), integer(NOW_MS) .. ' ' .. verdict .. ' ' .. job_id)
    count_in(sums, 'listed', 1)
    count_in(sums, 'verdict/' .. string.gsub(verdict, ':', '/'), 1)
    listed = listed + 1
  end
end
redis.call('HSET', plan, 'cursor', ARGV[4])
if ARGV[5] == '1' then
  redis.call('HSET', plan, 'state', 'ready', 'listed_ms', integer(NOW_MS))
  redis.call('HDEL', plan, 'search') -- it may hold personal data; what it means in words stays
  redis.call('DEL', key('plan_items', id .. ':named'))
end
close_books()
return listed
