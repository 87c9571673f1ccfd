-- Decide some more jobs of a running plan, each by comparing it with what the list froze. However often and
-- wherever it runs, every job is decided once, in the step that writes its verdict.
-- KEYS  1 prefix
-- ARGV  1 now | 2 wake-up envelope | 3 plan | 4 pace of tenants without one of their own (µs a request, 0: no limit)
--       5 jobs at most
-- Reply { decided now, state of the plan, jobs without a verdict }
-- A redrive goes only a little ahead of each tenant's budget, so that pause and cancel take effect.
-- uses: records, tenant_times, doubt, ledger, wakeups, transitions, redrive

local AHEAD_S, AHEAD_LEAST, AHEAD_UNLIMITED = 30, 50, 5000
local SMALL = 50 -- a plan of so few jobs goes at once
local TENANTS = 20 -- looked at in one step

local id, left = ARGV[3], tonumber(ARGV[5])
local plan, sums = key('plan', id), key('plan_sums', id)
local fields = redis.call('HMGET', plan, 'state', 'act', 'window_ms', 'note')
local state, act, window_ms, history = fields[1], fields[2], tonumber(fields[3]), fields[4]
if state ~= 'running' then
  return { 0, state or 'unknown', 0 }
end
local small = tonumber(redis.call('HGET', sums, 'listed') or '0') <= SMALL

local function room(tenant)
  if act ~= 'redrive' or small then
    return left
  end
  local pace_us = tonumber(redis.call('HGET', key('tenant', tenant), 'rate_us') or ARGV[4])
  local ahead = pace_us > 0 and math.max(AHEAD_LEAST, math.floor(AHEAD_S * 1000000 / pace_us)) or AHEAD_UNLIMITED
  return math.min(left, ahead - redis.call('ZCARD', key('ready', tenant .. ':redrive')))
end

local decided, woken = 0, {}
local function decide(job_id, died)
  local job = read_job(job_id)
  if not job then
    return 'skipped:unknown'
  elseif job.state ~= 'dead' then
    return 'skipped:' .. (job.state or 'unreadable')
  elseif job.at ~= died then
    return 'skipped:died_again'
  end
  book_in(sums, 'done', job, 1)
  leave(job_id, job)
  if act == 'discard' then
    to_terminal(job_id, job, 'discarded', job.reason, window_ms)
    return 'discarded'
  end
  local tenant = tenant_of(job_id)
  carry_doubt(job_id, job, restored_of(tenant, redis.call('HMGET', key('tenant', tenant), 'doubt', 'doubt_since')))
  redrive(job_id, job, NOW_US + decided, history)
  woken[tenant] = true
  return 'redriven'
end

for _, tenant in ipairs(redis.call('SRANDMEMBER', key('plan_tenants', id), TENANTS)) do
  local pending = key('plan_items', id .. ':pending:' .. tenant)
  local most = room(tenant)
  local items = most > 0 and redis.call('LPOP', pending, most) or {}
  for _, item in ipairs(items) do
    local died, job_id = string.match(item, '^(%d+) (.*)$')
    local verdict = decide(job_id, died)
    local kind = string.match(verdict, '^skipped') or 'done'
    redis.call('RPUSH', key('plan_items', id .. ':' .. kind), integer(NOW_MS) .. ' ' .. verdict .. ' ' .. job_id)
    count_in(sums, 'verdict/' .. string.gsub(verdict, ':', '/'), 1)
    decided = decided + 1
  end
  left = left - #items
  if redis.call('EXISTS', pending) == 0 then
    redis.call('SREM', key('plan_tenants', id), tenant)
  end
end

local open = 0
for _, tenant in ipairs(redis.call('SMEMBERS', key('plan_tenants', id))) do
  open = open + redis.call('LLEN', key('plan_items', id .. ':pending:' .. tenant))
end
if open == 0 then
  state = 'finished'
  redis.call('HSET', plan, 'state', state, 'ended_ms', integer(NOW_MS))
  redis.call('ZREM', key('plans_open'), id)
  redis.call('RPUSH', key('audit_log_waiting'), '{"plan_ended":"' .. id .. '"}')
end
queue_turns(woken, ARGV[2])
close_books()
return { decided, state, open }
