-- Claims questions that have no answer: one worker asks each, and the others wait for it.
--
-- A claim is the name of a worker. It holds while that worker is alive, which is a key of its own with a short time.
--
-- KEYS     of each question: its answer, and its claim
-- ARGV[1]  the worker that claims
-- ARGV[2]  what the names of the workers' keys begin with
-- ARGV[3]  seconds for which the worker counts as alive
-- ARGV[4]  seconds after which a claim is removed whatever happens
-- Returns whether the worker counted as alive until now: 1 or 0. And then for each question: 0 if another worker asks it
-- now; else its answer if there is one by now, or nothing.
-- Returns an empty table if the server takes no claims, because it is full or only a replica.

local told = {}
local alive = redis.call('EXISTS', ARGV[2] .. ARGV[1])
if redis.pcall('SET', ARGV[2] .. ARGV[1], 1, 'EX', ARGV[3]).err then return told end
told[1] = alive
for place = 1, #KEYS, 2 do
  local answer, claim = KEYS[place], KEYS[place + 1]
  local holder = redis.call('MGET', claim)[1] -- unlike GET, it takes what is no text for nothing
  if holder and holder ~= ARGV[1] and redis.call('EXISTS', ARGV[2] .. holder) == 1 then
    told[#told + 1] = 0
  else
    redis.call('SET', claim, ARGV[1], 'EX', ARGV[4])
    told[#told + 1] = redis.call('MGET', answer)[1] or ''
  end
end
return told
