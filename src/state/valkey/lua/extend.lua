-- Renews a lease.
-- KEYS: locks…
-- ARGV: name of the holder, lease in ms
-- Returns 1 (renewed), 0 (nobody holds one of the locks) or -1 (another session holds one of them).
local answer = 1
for n = 1, #KEYS do
  local holder = redis.call('GET', KEYS[n])
  if not holder then answer = math.min(answer, 0)
  elseif holder ~= ARGV[1] then answer = -1
  else redis.call('PEXPIRE', KEYS[n], ARGV[2]) end
end
return answer
