-- Gives up the claims of one worker. A worker that was stopped for long may have lost some to others, and they stay.
--
-- KEYS     the claims
-- ARGV[1]  the worker

for _, claim in ipairs(KEYS) do
  if redis.call('MGET', claim)[1] == ARGV[1] then redis.call('DEL', claim) end -- as in claims.lua, no GET
end
