-- Read jobs with every index that holds them, each at one moment; changes nothing.
-- KEYS  1 prefix
-- ARGV  1 now | then per job, 2 each: id | one more index to look in (without the prefix, '' for none)
-- Reply per job { record (nil: none, '!': not a string), number of its cause or '', the cause or '', those of its
--       references that are there, fingerprint of its body if an operator corrected it or '', then per index that
--       holds it: its name, its score }
-- uses: records, dead_letters

local replies = {}
for i = 2, #ARGV, 2 do
  local id, also = ARGV[i], ARGV[i + 1]
  local tenant = tenant_of(id) or ''
  -- pcall: what cannot be read is a finding, not a reason to stop.
  local sound, raw = pcall(redis.call, 'GET', key('job', id))
  local filed, number = pcall(redis.call, 'HGET', key('cause_of'), id)
  number = filed and number or nil
  local named, cause = pcall(redis.call, 'HGET', key('causes'), number or '')
  cause = named and cause
  local held = {}
  local known_edit, edit = pcall(redis.call, 'HGET', key('edited'), id)
  local found = { sound and raw or (not sound and '!'), number or '', cause or '', held, known_edit and edit or '' }
  local names = {
    NAMES.ready .. tenant .. ':live', NAMES.ready .. tenant .. ':retry', NAMES.ready .. tenant .. ':redrive',
    NAMES.scheduled, NAMES.retries, NAMES.in_flight, NAMES.places .. tenant, NAMES.dead, NAMES.newer,
  }
  if also == '' and sound and raw and string.sub(raw, 1, 1) == 't' then
    names = {} -- most records of a large store; an index that still holds one is met from the index's side
  end
  local parsed, job = pcall(read_job, id)
  if parsed and job and job.state == 'dead' then
    for _, reference in ipairs(references(id, conversion_of(job))) do
      local typed, there = pcall(redis.call, 'ZSCORE', key('dead_references'), reference)
      if typed and there then
        held[#held + 1] = reference
      end
    end
  end
  if number then
    names[#names + 1] = NAMES.cause .. number .. ':died'
    names[#names + 1] = NAMES.cause .. number .. ':amount'
  end
  local known = also == ''
  for _, name in ipairs(names) do
    known = known or name == also
  end
  if not known then
    names[#names + 1] = also
  end
  for _, name in ipairs(names) do
    local typed, score = pcall(redis.call, 'ZSCORE', PREFIX .. name, id)
    if typed and score then
      found[#found + 1] = name
      found[#found + 1] = score
    end
  end
  replies[#replies + 1] = found
end
return replies
