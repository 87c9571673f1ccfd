-- Remove tombstones whose dedupe window is over, counted by how their job ended.
-- KEYS  1 prefix
-- ARGV  1 now | 2 tombstones at most
-- Reply number removed or put off
-- uses: records, indexes, ledger

local DAY_MS = 86400000

local left, pruned = tonumber(ARGV[2]), 0
local later = math.ceil((NOW_MS + DAY_MS) / BUCKET_MS) * BUCKET_MS
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
      if job and job.state == NEWER then
        -- Not ours to judge: looked at again in a day, when those who can read it may be there.
        redis.call('ZADD', key('tombstones'), integer(later), integer(later))
        redis.call('RPUSH', key('tombstone_bucket', integer(later)), id)
      elseif job and job.state and string.sub(job.format, 1, 1) == 't' then
        book(tenant_of(id), job.state, job, -1)
        book(tenant_of(id), 'pruned_' .. job.state, job, 1)
        redis.call('DEL', key('job', id))
      else
        count(tenant_of(id), 'orphaned_entries', 1)
      end
    end
    pruned = pruned + #ids
    left = left - #ids
  end
end
close_books()
return pruned
