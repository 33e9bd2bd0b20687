-- Gives a maildrop or a duty up.
-- KEYS: index, locks…
-- ARGV: name of the holder, index ('' leaves it as it is), life of the index in seconds
-- Returns the number of locks that were held. If there were none, the index stays as it is.
local held = {}
for n, holder in ipairs(redis.call('MGET', unpack(KEYS, 2))) do
  if holder == ARGV[1] then held[#held + 1] = KEYS[n + 1] end
end
if #held == 0 then return 0 end
redis.call('DEL', unpack(held))
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return #held
