-- File dead letters that a version before the causes buried, by tenant and reason only, under their cause.
-- KEYS  1 prefix
-- ARGV  1 now | 2 letters at most
-- Reply number looked at; 0: none is left
-- uses: records, ledger, dead_letters

local OLD_GROUPS, OLD_GROUP = PREFIX .. 'dead_groups', PREFIX .. 'dead:'
local group = redis.call('HKEYS', OLD_GROUPS)[1]
if not group then
  return 0
end
local looked = 0
local ids = redis.call('ZPOPMIN', OLD_GROUP .. group, tonumber(ARGV[2]))
for i = 1, #ids, 2 do
  local id = ids[i]
  local job = read_job(id)
  if job and job.state == 'dead' and redis.call('HEXISTS', key('cause_of'), id) == 0 then
    file_dead(id, job)
  end
  looked = looked + 1
end
if redis.call('EXISTS', OLD_GROUP .. group) == 0 then
  redis.call('HDEL', OLD_GROUPS, group)
end
close_books()
return math.max(1, looked)
