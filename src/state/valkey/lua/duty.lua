-- Takes a duty, or renews it.
-- KEYS: duty
-- ARGV: name of the holder, life in ms
-- Returns 1 (taken or renewed) or 0 (another gateway has it).
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
