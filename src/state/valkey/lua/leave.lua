-- Gives a maildrop or a duty up.
-- KEYS: index, locks…
-- ARGV: name of the holder, index ('' leaves it as it is), life of the index in seconds
-- Returns the number of locks that were held. If there were none, the index stays as it is.
local held = 0
for n = 2, #KEYS do
  if redis.call('GET', KEYS[n]) == ARGV[1] then held = held + redis.call('DEL', KEYS[n]) end
end
if held > 0 and ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return held
