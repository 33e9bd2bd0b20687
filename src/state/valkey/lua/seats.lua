-- Notes how many connections a gateway has as an upstream user, if all gateways together may have so many.
-- KEYS: connections (hash of gateways)
-- ARGV: name of the gateway, its connections, how many all may have, life in ms,
--       whether gateways that are not named here are dead ('1'), gateways alive...
-- Returns {1} (noted), {0, other gateways with connections...} (too many), or {-1} (a gateway is not named here).
local count, own, sum, others, alive = tonumber(ARGV[2]), 0, 0, {}, {}
for i = 6, #ARGV do alive[ARGV[i]] = true end
local noted = redis.call('HGETALL', KEYS[1])
for i = 1, #noted, 2 do
  if noted[i] == ARGV[1] then
    own = tonumber(noted[i + 1])
  elseif alive[noted[i]] then
    sum = sum + noted[i + 1]
    others[#others + 1] = noted[i]
  elseif ARGV[5] == '1' then
    redis.call('HDEL', KEYS[1], noted[i])
  else
    return {-1}
  end
end
if count == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif count > own and sum + count > tonumber(ARGV[3]) then
  return {0, unpack(others)}
else
  redis.call('HSET', KEYS[1], ARGV[1], count)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {1}
