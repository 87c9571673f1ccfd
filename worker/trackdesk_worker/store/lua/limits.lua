-- Give tenants limits of their own, or take old ones away. Changes no job: the scripts that claim and reclaim read them,
-- so that all processes keep one pace and one policy.
-- KEYS  1 prefix
-- ARGV  1 now | then per tenant 6: tenant | µs per request, or '-' for the defaults | burst | requests in flight |
--         attempts at most | horizon (ms)
-- Reply the number of tenants

for i = 2, #ARGV, 6 do
  local state = key('tenant', ARGV[i])
  if ARGV[i + 1] == '-' then
    redis.call('HDEL', state, 'rate_us', 'burst', 'cap', 'max_attempts', 'horizon_ms')
  else
    redis.call('HSET', state, 'rate_us', ARGV[i + 1], 'burst', ARGV[i + 2], 'cap', ARGV[i + 3], 'max_attempts',
      ARGV[i + 4], 'horizon_ms', ARGV[i + 5])
  end
  redis.call('ZADD', key('turn'), 'XX', 'LT', integer(NOW_US), ARGV[i]) -- what it waited for may be over
end
return (#ARGV - 1) / 6
