-- Takes a maildrop, or renews its lease.
-- KEYS: mailbox, index, locks…
-- ARGV: name of the holder, lease in ms, login, digest of the records that the session knows, size of the largest index
-- to return
-- Returns {0} (another session holds it), {1} (taken, the records have that digest), or {2, past, removal, marks,
-- index} (taken). A missing record or index is ''. An index that is too large is 1.
for _, holder in ipairs(redis.call('MGET', unpack(KEYS, 3))) do
  if holder and holder ~= ARGV[1] then return {0} end
end
for n = 3, #KEYS do redis.call('SET', KEYS[n], ARGV[1], 'PX', ARGV[2]) end
local r = redis.call('HMGET', KEYS[1], 'p', 'm', 'k:' .. ARGV[3])
local all = ''
for n = 1, 3 do
  local record = r[n] or ''
  all = all .. #record .. ':' .. record
end
if redis.sha1hex(all) == ARGV[4] then return {1} end
local index = ''
local kind = redis.call('TYPE', KEYS[2]).ok
if kind == 'hash' then index = 1
elseif kind == 'string' then
  if redis.call('STRLEN', KEYS[2]) > tonumber(ARGV[5]) then index = 1 else index = redis.call('GET', KEYS[2]) end
end
return {2, r[1] or '', r[2] or '', r[3] or '', index}
