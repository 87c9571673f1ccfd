-- Give dead letters up for good, by a named operator: a tombstone stays for the dedupe window.
-- KEYS  1 prefix
-- ARGV  1 now | 2 dedupe window (ms) | 3… ids
-- Reply per id: 'discarded' | 'unknown' | 'refused:<state>'

local window_ms = tonumber(ARGV[2])
local replies = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local job = read_job(id)
  if not job then
    replies[#replies + 1] = 'unknown'
  elseif job.state ~= 'dead' then
    replies[#replies + 1] = 'refused:' .. job.state
  else
    leave(id, job)
    to_terminal(id, job, 'discarded', job.reason, window_ms)
    replies[#replies + 1] = 'discarded'
  end
end
close_books()
return replies
