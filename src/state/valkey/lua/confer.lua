-- Says something to the other gateways, and returns what they have said.
-- KEYS: words (stream), alive (sorted set of gateways, by the time until which they count as alive)
-- ARGV: name of the gateway, for how many ms it counts as alive, position up to which it has heard ('' = up to now),
--       its words ('' = none), how many entries are kept
-- Returns the position up to which the gateway has heard now, the words of others since then, and the gateways alive.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', ARGV[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local position, words = ARGV[3], {}
if position == '' then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  position = last[1] and last[1][1] or '0-0'
else
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. position, '+', 'COUNT', 200)) do
    position = entry[1]
    if entry[2][1] ~= ARGV[1] then words[#words + 1] = entry[2][2] end
  end
end
return {position, words, redis.call('ZRANGE', KEYS[2], 0, -1)}
