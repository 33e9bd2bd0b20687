-- Replaces a notice.
-- KEYS: notices (hash)
-- ARGV: name of the notice, SHA-1 of what it was, what it is to be ('' removes it; a missing notice counts as '')
-- Returns 1 (done now or before) or 0 (the notice is neither what it was nor what it is to be).
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now ~= ARGV[3] and redis.sha1hex(now) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
