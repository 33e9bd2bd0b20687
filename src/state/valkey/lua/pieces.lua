-- Replaces pieces of a large index.
-- KEYS: index
-- ARGV: digests of its pieces as they were ('' if there were none), digests as they are to be, names, number of pieces,
-- life in seconds, then for each changed piece: number, octets
-- Returns 1, or 0 if the pieces are not what they were.
local was = ''
if redis.call('TYPE', KEYS[1]).ok == 'hash' then was = redis.call('HGET', KEYS[1], 'd') or '' end
if was ~= ARGV[1] then return 0 end
if was == '' then redis.call('DEL', KEYS[1]) end
local before = #was / 8
for n = tonumber(ARGV[4]), before - 1 do redis.call('HDEL', KEYS[1], n) end
for n = 6, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
redis.call('HSET', KEYS[1], 'd', ARGV[2], 'n', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
