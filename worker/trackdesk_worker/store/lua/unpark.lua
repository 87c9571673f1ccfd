-- Put jobs back into their index that another process set aside because a newer release than its own wrote their
-- records. What this release cannot read either stays aside.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 jobs at most
-- Reply { jobs put back, jobs that stay aside }
-- uses: records, wakeups

local woken, back = {}, 0
-- Drawn by lot: those that can be read must not wait behind those that cannot.
for _, id in ipairs(redis.call('ZRANDMEMBER', key('newer'), tonumber(ARGV[3]))) do
  local job = read_job(id)
  if not job or job.state ~= NEWER then
    redis.call('ZREM', key('newer'), id)
    -- The record knows its place: if another process moved it meanwhile, it is there already.
    if job and job.state == 'ready' then
      redis.call('ZADD', key('ready', tenant_of(id) .. ':' .. job.job_class), job.at, id)
      woken[tenant_of(id)] = true
    elseif job and (job.state == 'scheduled' or job.state == 'in_flight') then
      redis.call('ZADD', key(job.state), job.at, id)
      if job.state == 'in_flight' then
        redis.call('ZADD', key('places', tenant_of(id)), job.at, id)
      end
    end
    back = back + 1
  end
end
queue_turns(woken, ARGV[2])
return { back, redis.call('ZCARD', key('newer')) }
