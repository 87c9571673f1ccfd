-- Moves of jobs between states. A script takes a job out of its old state first (`leave`), then calls one `to_…`.
-- uses: records, tombstones, indexes, ledger, dead_letters

local HISTORY_KEPT = 100 -- entries a job keeps at most; attempts are capped, so only many redrives reach it

local function to_ready(id, job, at_us)
  local tenant = tenant_of(id)
  job.state, job.at, job.token = 'ready', integer(at_us), '0'
  write_live(id, job)
  add_later(key('ready', tenant .. ':' .. job.job_class), job.at, id)
  book(tenant, 'ready', job, 1)
end

local function to_scheduled(id, job, delay_ms)
  job.state, job.at, job.token = 'scheduled', integer(NOW_MS + delay_ms), '0'
  write_live(id, job)
  add_later(key('scheduled'), job.at, id)
  add_later(key('retries'), integer(NOW_MS), id)
  book(tenant_of(id), 'scheduled', job, 1)
end

local function to_dead(id, job, reason)
  local tenant = tenant_of(id)
  job.state, job.at, job.token, job.reason = 'dead', integer(NOW_MS), '0', reason
  write_live(id, job)
  redis.call('ZADD', key('dead'), job.at, id)
  file_dead(id, job)
  book(tenant, 'dead', job, 1)
end

-- End a job: its record becomes a tombstone for the dedupe window, in the prune bucket of the hour in which that ends.
local function to_terminal(id, job, state, reason, window_ms)
  redis.call('SET', key('job', id), tombstone(job, state, reason, NOW_MS))
  redis.call('DEL', key('history', id))
  if job.redrives ~= '0' then
    redis.call('HDEL', key('edited'), id)
  end
  local due = integer(math.ceil((NOW_MS + window_ms) / BUCKET_MS) * BUCKET_MS)
  ended[due] = ended[due] or {}
  table.insert(ended[due], id)
  book(tenant_of(id), state, job, 1)
end

-- Remove a job from the index and from the ledger's column of its state.
local function leave(id, job)
  local tenant = tenant_of(id)
  if job.state == 'ready' then
    remove_later(key('ready', tenant .. ':' .. job.job_class), id)
  elseif job.state == 'scheduled' then
    remove_later(key('scheduled'), id)
    remove_later(key('retries'), id)
  elseif job.state == 'in_flight' then
    remove_later(key('in_flight'), id)
    remove_later(key('places', tenant), id)
  elseif job.state == 'dead' then
    redis.call('ZREM', key('dead'), id)
    unfile_dead(id, job)
  end
  book(tenant, job.state, job, -1)
end

-- Add an entry to the job's history. A key that is no list was not written by these scripts: it stays as it is.
local function note(id, entry)
  redis.pcall('RPUSH', key('history', id), entry)
  redis.pcall('LTRIM', key('history', id), -HISTORY_KEPT, -1)
end
