-- Replaces fields of a hash, all or none. Takes locks that nobody holds, and renews the holder's.
-- KEYS: hash, locks…
-- ARGV: name of the holder, lease in ms, names, then for each field: name, SHA-1 of what it was, what it is to be (''
-- removes it; a missing field counts as '')
-- Returns 1 (done now or before), -1 (another session holds a lock) or -2 (a field is neither what it was nor what it
-- is to be).
for n = 2, #KEYS do
  local holder = redis.call('GET', KEYS[n])
  if holder and holder ~= ARGV[1] then return -1 end
end
for n = 4, #ARGV, 3 do
  local now = redis.call('HGET', KEYS[1], ARGV[n]) or ''
  if now ~= ARGV[n + 2] and redis.sha1hex(now) ~= ARGV[n + 1] then return -2 end
end
for n = 2, #KEYS do redis.call('SET', KEYS[n], ARGV[1], 'PX', ARGV[2]) end
for n = 4, #ARGV, 3 do
  if ARGV[n + 2] == '' then redis.call('HDEL', KEYS[1], ARGV[n])
  else redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 2]) end
end
if redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], 'n') then redis.call('DEL', KEYS[1])
else redis.call('HSET', KEYS[1], 'n', ARGV[3]) end
return 1
