-- Redrives: by a plan, or after an operator's correction.
-- uses: records, ledger, transitions

-- Move a dead letter to ready with a fresh attempt budget. `history_entry` is JSON without its last brace.
local function redrive(id, job, at_us, history_entry)
  note(id, history_entry .. ',"at_ms":' .. integer(NOW_MS) .. '}')
  job.attempts, job.strikes, job.epoch, job.job_class = '0', '0', integer(NOW_MS), 'redrive'
  job.redrives = integer(tonumber(job.redrives) + 1)
  to_ready(id, job, at_us)
  count(tenant_of(id), 'redriven', 1)
end
