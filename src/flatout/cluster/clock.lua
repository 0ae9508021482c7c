-- Stands before the scripts that go by a clock: the one in ARGV[3], or this server's. Only tests give one.

local clock = tonumber(ARGV[3])
if not clock then
  local time = redis.call('TIME')
  clock = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

