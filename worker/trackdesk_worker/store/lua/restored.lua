-- Remember that the store may have forgotten something, after a restore or a failover: whatever was accepted until now
-- counts as sent before, and no fencing token that was given out since the backup is ever given out again.
-- KEYS  1 prefix
-- ARGV  1 now | 2 the one tenant it is about, or '' for all | 3 since when it may have forgotten (ms), or '' if unknown:
--       an "already exists" since then refused nothing
-- Reply number of tenants

if ARGV[3] ~= '' and not tonumber(ARGV[3]) then
  return redis.error_reply('ERR restored: the time must be a number')
end
local FORGOTTEN_TOKENS = 1000000000
redis.call('INCRBY', key('sequence'), FORGOTTEN_TOKENS)
local tenants = ARGV[2] == '' and redis.call('SMEMBERS', key('tenants')) or { ARGV[2] }
for _, tenant in ipairs(tenants) do
  redis.call('HSET', key('tenant', tenant), 'doubt', integer(NOW_MS))
  if ARGV[3] == '' then
    redis.call('HDEL', key('tenant', tenant), 'doubt_since')
  else
    redis.call('HSET', key('tenant', tenant), 'doubt_since', ARGV[3])
  end
end
return #tenants
