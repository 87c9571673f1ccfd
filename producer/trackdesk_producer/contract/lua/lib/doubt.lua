-- Contents that may be at Trackdesk (contract/doubt.py), and the later words of a record, which hold them.

local LATER = { @later_patterns@ }
local function later_word(job, name)
  return string.match(job.more, LATER[name]) or '-'
end

local PLACES = { @later_places@ }
local function set_later_word(job, name, value)
  local words = {}
  for word in string.gmatch(job.more, '%S+') do
    words[#words + 1] = word
  end
  for place = #words + 1, PLACES[name] do
    words[place] = '-'
  end
  words[PLACES[name]] = value
  job.more = ' ' .. table.concat(words, ' ')
end

-- Whether the store may have forgotten an attempt of the job: an operator reported a restore (`restored`) after the job
-- was accepted or last redriven. The job then counts as sent, and as ambiguous. A redrive or an edit writes that into
-- the record.
local function may_be_forgotten(job, restored_ms)
  restored_ms = tonumber(restored_ms) or -1
  return tonumber(job.accepted) <= restored_ms and (job.redrives == '0' or tonumber(job.epoch) <= restored_ms)
end

-- The beginning of the fingerprint of the job's present body: that of an operator's correction, if there is one.
local function content_of(id, job)
  local corrected = job.redrives ~= '0' and redis.call('HGET', key('edited'), id)
  return string.sub(corrected or job.fingerprint, 1, FINGERPRINT_KEPT)
end

-- Record that the job may be at Trackdesk with its present content. `mark` is FORGOTTEN if the store may have forgotten
-- what was sent, else ''.
local function add_doubt(id, job, mark)
  local content = content_of(id, job) .. ':' .. (job.amount == '-' and '-' or job.amount .. job.currency)
  local known = later_word(job, 'doubt')
  if known == '-' and job.ambiguous == '1' then
    mark = FORGOTTEN -- a release before this word marked it, and did not say with which content
  end
  job.ambiguous = '1'
  local _, commas = string.gsub(known, ',', '')
  if known == '-' then
    set_later_word(job, 'doubt', mark .. content)
  elseif commas + 1 < CONTENTS_KEPT and not string.find(',' .. known .. ',', ',' .. mark .. content .. ',', 1, true) then
    set_later_word(job, 'doubt', known .. ',' .. mark .. content)
  end
end

-- Write into the record what else makes the job ambiguous, before it is sent again or its content changes. `restored`:
-- when the tenant's store was restored, and, if known, since when it had lost writes: "already exists" since then does
-- not count as a refusal.
local function carry_doubt(id, job, restored)
  if may_be_forgotten(job, restored[1]) then
    add_doubt(id, job, FORGOTTEN)
    local refused = tonumber(later_word(job, 'refused'))
    if refused and restored[2] and refused >= tonumber(restored[2]) then
      set_later_word(job, 'refused', '-')
    end
  elseif job.ambiguous == '1' and later_word(job, 'doubt') == '-' then
    add_doubt(id, job, FORGOTTEN)
  end
end
