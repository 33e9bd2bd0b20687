-- Replaces pieces of a large index.
-- KEYS: index, locks… (none if no session has to hold the maildrop)
-- ARGV: digests of its pieces as they were ('' if there were none), digests as they are to be, names, number of pieces,
-- life in seconds, name of the holder, then for each changed piece: number, octets
-- Returns 1, 0 (the pieces are not what they were) or -1 (the session holds none of the locks).
if #KEYS > 1 then
  local held = false
  for n = 2, #KEYS do held = held or redis.call('GET', KEYS[n]) == ARGV[6] end
  if not held then return -1 end
end
local was = ''
if redis.call('TYPE', KEYS[1]).ok == 'hash' then was = redis.call('HGET', KEYS[1], 'd') or '' end
if was ~= ARGV[1] then return 0 end
if was == '' then redis.call('DEL', KEYS[1]) end
local before = #was / 8
for n = tonumber(ARGV[4]), before - 1 do redis.call('HDEL', KEYS[1], n) end
for n = 7, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
redis.call('HSET', KEYS[1], 'd', ARGV[2], 'n', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
