-- Renews a lease. KEYS: locks…   ARGV: name, lease in ms   Answers 1: renewed, 0: nobody holds one of them, -1: another does
local answer = 1
for n = 1, #KEYS do
  local holder = redis.call('GET', KEYS[n])
  if not holder then answer = math.min(answer, 0)
  elseif holder ~= ARGV[1] then answer = -1
  else redis.call('PEXPIRE', KEYS[n], ARGV[2]) end
end
return answer
