-- Claims questions that have no answer: one worker asks each, and the others wait for it.
--
-- A claim is the name of a worker. It holds while that worker is alive, which is a key of its own with a short time.
--
-- KEYS     of each question: its answer, and its claim
-- ARGV[1]  the worker that claims
-- ARGV[2]  what the names of the workers' keys begin with
-- ARGV[3]  seconds for which the worker counts as alive
-- ARGV[4]  seconds after which a claim is removed whatever happens
-- ARGV[5]  '1' to claim also those that have an answer, because it is too old
-- Returns whether the worker counted as alive until now: 1 or 0. And then for each question: 0 if another worker asks it
-- now, 1 if it is claimed, 2 if it has an answer and is not claimed.
-- Returns an empty table if the server takes no claims, because it is full or only a replica.

local ELSEWHERE, CLAIMED, ANSWERED = 0, 1, 2

local told = {}
local alive = redis.call('EXISTS', ARGV[2] .. ARGV[1])
if redis.pcall('SET', ARGV[2] .. ARGV[1], 1, 'EX', ARGV[3]).err then return told end
told[1] = alive

local lives = {[ARGV[1]] = false} -- its own claims it may take anew
local function is_held(claim)
  local holder = redis.call('MGET', claim)[1] -- unlike GET, it takes what is no text for nothing
  if not holder then return false end
  if lives[holder] == nil then lives[holder] = redis.call('EXISTS', ARGV[2] .. holder) == 1 end
  return lives[holder]
end

for place = 1, #KEYS, 2 do
  local answer, claim = KEYS[place], KEYS[place + 1]
  if ARGV[5] ~= '1' and redis.call('EXISTS', answer) == 1 then
    told[#told + 1] = ANSWERED
  elseif is_held(claim) then
    told[#told + 1] = ELSEWHERE
  else
    redis.call('SET', claim, ARGV[1], 'EX', ARGV[4])
    told[#told + 1] = CLAIMED
  end
end
return told
