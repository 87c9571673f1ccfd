-- Look at tenants: books, operational state, ready queues and a sample of each. Changes nothing.
-- KEYS  1 prefix
-- ARGV  1 now | 2 ready before this (µs) counts as overdue | 3 … and before this as late
--       4 jobs to sample per queue | 5… tenants
-- Reply per tenant { ledger fields, state fields, turn (µs) or '', queue live, queue retry, queue redrive };
--       a queue is { size, oldest (µs) or '', overdue, late, place, epoch (ms), place, epoch… }
-- Cost: O(tenants), and a record read per sampled job.
-- uses: records

local overdue_us, late_us, sample = ARGV[2], ARGV[3], tonumber(ARGV[4])

local function look_at(queue)
  local size = redis.call('ZCARD', queue)
  if size == 0 then
    return { 0, '', 0, 0 }
  end
  local seen = {
    size, redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2],
    redis.call('ZCOUNT', queue, '-inf', overdue_us), redis.call('ZCOUNT', queue, '-inf', late_us),
  }
  if sample > 0 then
    for place = 0, size - 1, math.max(1, math.ceil(size / sample)) do
      local id = redis.call('ZRANGE', queue, place, place)[1]
      local job = id and read_job(id)
      if job and job.epoch then
        seen[#seen + 1], seen[#seen + 2] = place, job.epoch
      end
    end
  end
  return seen
end

local replies = {}
for i = 5, #ARGV do
  local tenant = ARGV[i]
  replies[#replies + 1] = {
    redis.call('HGETALL', key('ledger', tenant)),
    redis.call('HGETALL', key('tenant', tenant)),
    redis.call('ZSCORE', key('turn'), tenant) or '',
    look_at(key('ready', tenant .. ':live')),
    look_at(key('ready', tenant .. ':retry')),
    look_at(key('ready', tenant .. ':redrive')),
  }
end
return replies
