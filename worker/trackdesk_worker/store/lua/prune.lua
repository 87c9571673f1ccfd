-- Remove tombstones whose dedupe window is over, counted by how their job ended.
-- KEYS  1 prefix
-- ARGV  1 now | 2 tombstones at most
-- Reply number removed

local left, pruned = tonumber(ARGV[2]), 0
while left > 0 do
  local due = redis.call('ZRANGEBYSCORE', key('tombstones'), '-inf', integer(NOW_MS), 'LIMIT', 0, 1)[1]
  if not due then
    break
  end
  local ids = redis.call('LPOP', key('tombstone_bucket', due), left)
  if not ids then
    redis.call('ZREM', key('tombstones'), due)
  else
    for _, id in ipairs(ids) do
      local job = read_job(id)
      if job and job.format == FORMAT_TOMBSTONE then
        book(tenant_of(id), job.state, job, -1)
        book(tenant_of(id), 'pruned_' .. job.state, job, 1)
        redis.call('DEL', key('job', id))
      else
        count(tenant_of(id), 'strays', 1)
      end
    end
    pruned = pruned + #ids
    left = left - #ids
  end
end
close_books()
return pruned
