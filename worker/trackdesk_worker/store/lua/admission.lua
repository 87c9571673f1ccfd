-- Close the store to new sales for a while, or open it. May write on a full Redis: that is when it has to.
-- KEYS  1 prefix
-- ARGV  1 now | 2 seconds it stays closed, 0 opens it
-- Reply 1

if ARGV[2] == '0' then
  redis.call('DEL', key('admission'))
else
  redis.call('SET', key('admission'), 'closed', 'EX', ARGV[2])
end
return 1
