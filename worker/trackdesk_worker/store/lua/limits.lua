-- Give tenants limits of their own, or take old ones away. Changes no job: the claim script reads them, so that all
-- processes keep one pace.
-- KEYS  1 prefix
-- ARGV  1 now | then per tenant 4: tenant | µs per request, or '-' for the defaults | burst | requests in flight
-- Reply the number of tenants

for i = 2, #ARGV, 4 do
  local state = key('tenant', ARGV[i])
  if ARGV[i + 1] == '-' then
    redis.call('HDEL', state, 'rate_us', 'burst', 'cap')
  else
    redis.call('HSET', state, 'rate_us', ARGV[i + 1], 'burst', ARGV[i + 2], 'cap', ARGV[i + 3])
  end
end
return (#ARGV - 1) / 4
