-- Job records as Redis stores them. The loader fills in the lists of header words (contract/record.py), written out
-- because these functions run at every transition of every job.
-- uses: tombstones

-- A table of the header words, with `body`, and `more`: the words that only some records of the format have, in one
-- string. The state is NEWER if a newer release wrote the record, and missing if the record cannot be read.
local function parse_job(raw)
  local format, job = string.match(raw, '^%S*'), nil
  @readers@
  elseif string.find(format, '^t?%d+$') then
    job = { state = NEWER, format = format }
  end
  return job or { format = format, more = '', body = '' }
end

local function live_record(job)
  return '@live_format@ ' .. @words@ .. job.more .. '\n' .. job.body
end

local function tenant_of(id)
  return string.match(id, '^[^/]+')
end

-- The record of a job as `parse_job` reads it, or nil if there is none. A value that is no string reads as a record
-- without a state: an error would stop all the other jobs of the batch.
local function read_job(id)
  local raw = redis.pcall('GET', key('job', id))
  return raw and parse_job(type(raw) == 'string' and raw or '') or nil
end

local function write_live(id, job)
  redis.call('SET', key('job', id), live_record(job))
end
