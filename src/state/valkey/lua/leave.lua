-- Gives a maildrop up. KEYS: index, locks…   ARGV: name, index ('' leaves it), its life in seconds
local held = 0
for n = 2, #KEYS do
  if redis.call('GET', KEYS[n]) == ARGV[1] then held = held + redis.call('DEL', KEYS[n]) end
end
if held > 0 and ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return held
