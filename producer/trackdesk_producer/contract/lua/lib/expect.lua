-- Reads of a job that an index listed.
-- uses: records, ledger

-- The job, if it is in `state`, as the index that listed it says. A job whose record a newer release wrote is parked as
-- it is, ledger included; `unpark` puts it back. Anything else means that something other than these scripts wrote to
-- Redis: the entry is dropped and counted, delivery goes on, and the audit reports it.
local function expect(id, state, index)
  local job = read_job(id)
  if job and job.state == state then
    return job
  end
  if index then
    redis.call('ZREM', index, id)
  end
  if state == 'in_flight' then
    redis.call('ZREM', key('places', tenant_of(id)), id) -- no worker sends a job without a record: the place is free
  elseif state == 'scheduled' then
    redis.call('ZREM', key('retries'), id)
  end
  if job and job.state == NEWER then
    redis.call('ZADD', key('newer'), 'NX', integer(NOW_MS), id)
  else
    count(tenant_of(id), 'orphaned_entries', 1)
  end
  return nil
end
