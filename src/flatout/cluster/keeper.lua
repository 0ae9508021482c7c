-- The keeper of flatout/policies/pacing/leases.py, line by line: what it says there is not said again here.
--
-- KEYS[1]  the state: what `Keeper` holds, as MessagePack
-- KEYS[2]  the batches of the log
-- KEYS[3]  the state that the log has led to, and the number of its first batch
-- KEYS[4]  the reports of all targets' workers, and their sums
-- ARGV[1]  an `Ask`, as MessagePack
-- ARGV[2]  seconds after which the state is forgotten if nobody asks
-- ARGV[3]  see clock.lua, which stands before this
-- ARGV[4…] what `News` holds
-- Returns a `Granted`, as MessagePack; then what `Read` holds: its end, the kept state, the batches.

local FAR, LEAD, SOON, EARLY, AGAIN, PATIENT, LATE = 2.5, 0.75, 0.25, 0.8, 0.25, 5, 0.7
local HEARTBEAT, SLOTS_HEARTBEAT, ACTIVE, SILENT, STEP, QUIET, RETURN = 4, 0.3, 10, 1, 0.5, 0.5, 0.8

-- The places of the fields: MessagePack arrays, counted from 1.
local WORKER, SINCE, SHARE, PAUSE, ALONE, LEAVES, CELLS, SLOTS, TOLD, VERSION = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local NUMBER, MORE, USUAL = 11, 12, 13
local K_OFFSET, K_LAST, K_PAUSED, K_RETURNING, K_CLAIMED, K_VERSION, K_CELLS, K_WORKERS = 1, 2, 3, 4, 5, 6, 7, 8
local K_HEARD, K_USUAL = 9, 10
local C_NAME, C_TAT, C_LOWEST, C_LOWEST_AT, C_TAKEN, C_BY = 1, 2, 3, 4, 5, 6
local W_NAME, W_SEEN, W_DUE, W_SHARE, W_SLOTS, W_WANT, W_HELD_AT, W_NEEDED_AT, W_WAITS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local W_TAKES, W_NUMBER = 10, 11
local A_NAME, A_RATE, A_BURST, A_KEEPS, A_WANT, A_FIRST, A_UNUSED, A_SETTLED, A_FOLLOWS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local S_MOST, S_HELD, S_WANT, S_NAME, S_FOLLOWS = 1, 2, 3, 4, 5
local U_ANSWERS = 4
local T_NAME, T_LIMIT, T_WINDOW, T_AT = 1, 2, 3, 4

local gone = {}  -- the names of workers that are no longer counted

local max, min, floor = math.max, math.min, math.floor

local function named(among, name)
  for place, each in ipairs(among) do
    if each[1] == name then return each, place end
  end
end

local function present(keeper, clock, ask, known)
  local now = clock + keeper[K_OFFSET]
  if known and ask[SINCE] >= 0 and now > known[W_SEEN] + ask[SINCE] + STEP then
    now = known[W_SEEN] + ask[SINCE]
  end
  now = max(keeper[K_LAST], now)
  keeper[K_OFFSET] = now - clock
  keeper[K_LAST] = now
  return now
end

local function met(keeper, ask, known, now)
  local workers = {}
  for _, each in ipairs(keeper[K_WORKERS]) do
    if each == known or now - each[W_DUE] < ACTIVE then
      workers[#workers + 1] = each
    else
      gone[#gone + 1] = each[W_NAME]
    end
  end
  keeper[K_WORKERS] = workers
  if not known then
    known = {ask[WORKER], now, now, ask[SHARE], 0, 0, 0, 0, 0, 0, 0}
    workers[#workers + 1] = known
    keeper[K_CLAIMED] = keeper[K_CLAIMED] + ask[SHARE]
  end
  known[W_SEEN], known[W_NUMBER] = now, ask[NUMBER]
  return known
end

local function share_of(keeper, ask, worker)
  local most, others = keeper[K_LAST] >= keeper[K_RETURNING] + ACTIVE and 1 or min(1, keeper[K_CLAIMED]), 0
  for _, each in ipairs(keeper[K_WORKERS]) do
    if each ~= worker then others = others + each[W_SHARE] end
  end
  local share = min(1 / max(1, #keeper[K_WORKERS]), max(0, most - others))
  worker[W_SHARE] = max(ask[SHARE], share)
  return share
end

local function pause(keeper, seconds, now)
  if seconds > 0 then
    keeper[K_PAUSED] = max(keeper[K_PAUSED], now + seconds)
  elseif seconds == 0 then
    keeper[K_PAUSED] = min(keeper[K_PAUSED], now)
  end
end

local function corrected(keeper, ask, worker, now)
  local cell = named(keeper[K_CELLS], ask[A_NAME])
  if not cell then
    cell = {ask[A_NAME], now + ask[A_BURST], ask[A_RATE], now, 0, ''}
    table.insert(keeper[K_CELLS], cell)
  end
  if not ask[A_FOLLOWS] and (ask[A_RATE] <= cell[C_LOWEST] or now - cell[C_LOWEST_AT] >= ask[A_KEEPS]) then
    cell[C_LOWEST], cell[C_LOWEST_AT] = ask[A_RATE], now
  end
  cell[C_TAT] = cell[C_TAT] - ask[A_SETTLED] / cell[C_LOWEST]
  if cell[C_BY] == worker then
    cell[C_TAT] = cell[C_TAT] - ask[A_UNUSED] / cell[C_LOWEST]
  end
  cell[C_TAT] = max(cell[C_TAT], now)
  return cell
end

local function turn_of(keeper, ask, worker, ahead, seconds, now, room)
  if seconds == 0 then
    if not ask[MORE] then worker[W_WAITS] = 0 end
    return false, 0
  end
  local before, others = 0, 0
  for _, each in ipairs(keeper[K_WORKERS]) do
    if each ~= worker and each[W_WAITS] > 0 and now < each[W_DUE] + LATE then
      others = others + each[W_TAKES]
      local same = each[W_WAITS] == worker[W_WAITS] and each[W_NAME] < worker[W_NAME]
      if worker[W_WAITS] == 0 or each[W_WAITS] < worker[W_WAITS] or same then before = before + each[W_TAKES] end
    end
  end
  worker[W_TAKES] = seconds
  local late = ahead <= SOON * FAR
  if room and (late or ahead + before <= FAR) then
    worker[W_WAITS] = ask[MORE] and now or 0
    local wait = EARLY * (ahead + seconds + (late and 0 or others)) - LEAD * FAR
    return true, ask[MORE] and min(PATIENT, max(0, wait)) or 0
  end
  if worker[W_WAITS] == 0 then worker[W_WAITS] = now end
  return false, min(PATIENT, max(AGAIN, EARLY * (ahead + before) - LEAD * FAR))
end

local function leases_of(keeper, ask, worker, now, room)
  local closed, at, seconds = max(keeper[K_PAUSED], keeper[K_RETURNING]), now, 0
  local cells, granted = {}, {}
  for place, each in ipairs(ask[CELLS]) do
    local cell = corrected(keeper, each, ask[WORKER], now)
    cells[place] = cell
    granted[place] = {0, cell[C_TAT] - now, cell[C_LOWEST], cell[C_TAKEN]}
  end
  if closed > now then return granted, 0 end
  for place, each in ipairs(ask[CELLS]) do
    local cell = cells[place]
    cell[C_TAT] = max(cell[C_TAT], closed + each[A_BURST])
    if keeper[K_RETURNING] > -ACTIVE then
      cell[C_TAT] = max(cell[C_TAT], keeper[K_RETURNING] + each[A_FIRST] / cell[C_LOWEST] / 2)
    end
    if each[A_WANT] > 0 then
      at = max(at, cell[C_TAT] - max(0, each[A_BURST] - each[A_FIRST] / cell[C_LOWEST]))
      seconds = max(seconds, each[A_WANT] / cell[C_LOWEST])
    end
  end
  local goes, again = turn_of(keeper, ask, worker, at - now, seconds, now, room)
  for place, each in ipairs(ask[CELLS]) do
    local cell, units = cells[place], goes and each[A_WANT] or 0
    if units > 0 then cell[C_BY] = ask[WORKER] end
    cell[C_TAKEN] = cell[C_TAKEN] + units
    granted[place] = {units, cell[C_TAT] - now, cell[C_LOWEST], cell[C_TAKEN]}
    cell[C_TAT] = cell[C_TAT] + units / cell[C_LOWEST]
  end
  return granted, again
end

local function using_of(keeper, ask, worker, now)
  local needs, using = false, 0
  for _, each in ipairs(ask[CELLS]) do needs = needs or each[A_WANT] > 0 end
  if not needs then return #keeper[K_WORKERS] end
  worker[W_NEEDED_AT] = now
  for _, each in ipairs(keeper[K_WORKERS]) do
    if now - each[W_NEEDED_AT] < SILENT then using = using + 1 end
  end
  return using
end

local function lowest_of(keeper, slots, now)
  local cell, most = named(keeper[K_CELLS], slots[S_NAME]), slots[S_MOST]
  if not cell then
    cell = {slots[S_NAME], 0, most, now, 0, ''}
    table.insert(keeper[K_CELLS], cell)
  end
  if not slots[S_FOLLOWS] and (most <= cell[C_LOWEST] or now - cell[C_LOWEST_AT] >= ACTIVE) then
    cell[C_LOWEST], cell[C_LOWEST_AT] = most, now
  end
  return cell[C_LOWEST]
end

local function slots_of(keeper, ask, worker, now)
  local others, hungry, using, before = 0, false, 1, 0
  if worker[W_SLOTS] > 0 then worker[W_HELD_AT] = now end
  for _, each in ipairs(keeper[K_WORKERS]) do
    if each ~= worker and now < each[W_DUE] + LATE then
      others = others + each[W_SLOTS]
      hungry = hungry or each[W_WANT] > each[W_SLOTS]
      if each[W_WANT] > 0 then
        using = using + 1
        if each[W_SLOTS] == 0 and each[W_HELD_AT] < worker[W_HELD_AT] then before = before + 1 end
      end
    end
  end
  local allowed = 0
  for _, slots in ipairs(ask[SLOTS]) do
    local most = lowest_of(keeper, slots, now)
    allowed = min(slots[S_WANT], max(0, most - others))
    local part = floor(most / using)
    if hungry and slots[S_HELD] > 0 then
      allowed = min(allowed, part)
    elseif hungry then
      allowed = min(allowed, max(1, part), max(0, most - others - before))
    end
    if keeper[K_RETURNING] > now then allowed = min(allowed, slots[S_HELD]) end
  end
  return allowed, others
end

local function kept_of(ask, worker, slots, leases)
  local needs, goes = false, false
  for place, each in ipairs(ask[CELLS]) do
    needs = needs or each[A_WANT] > 0
    goes = goes or (leases[place][1] > 0)
  end
  local waits = needs and not goes
  worker[W_SLOTS], worker[W_WANT] = 0, 0
  for _, each in ipairs(ask[SLOTS]) do
    slots = waits and min(slots, each[S_HELD]) or slots
    worker[W_SLOTS] = max(each[S_HELD], slots)
    worker[W_WANT] = waits and worker[W_SLOTS] or each[S_WANT]
  end
  return slots
end

local function beat_of(keeper, ask, worker, again, others, now)
  local beat = max(HEARTBEAT, again, worker[W_DUE] - now)
  for _, each in ipairs(ask[SLOTS]) do
    if worker[W_SLOTS] > 0 and 2 * (others + worker[W_SLOTS]) > lowest_of(keeper, each, now) then
      beat = SLOTS_HEARTBEAT
    end
  end
  worker[W_DUE] = now + beat
  return beat
end

local function usual_of(keeper, ask)
  for _, each in ipairs(ask[USUAL]) do
    local known = keeper[K_USUAL][1]
    if known and known[U_ANSWERS] > each[U_ANSWERS] then return keeper[K_USUAL] end
    keeper[K_USUAL] = ask[USUAL]
  end
  return {}
end

local function given_of(keeper, ask, now)
  local given = {}
  for _, each in ipairs(keeper[K_CELLS]) do
    if not named(ask[CELLS], each[C_NAME]) and now - each[C_LOWEST_AT] < ACTIVE then
      given[#given + 1] = {each[C_NAME], each[C_LOWEST]}
    end
  end
  return given
end

local function hear(keeper, told, now)
  for _, each in ipairs(told) do
    local heard = named(keeper[K_HEARD], each[T_NAME])
    if not heard then
      heard = {each[T_NAME], 0, 0, now}
      table.insert(keeper[K_HEARD], heard)
    end
    if heard[T_LIMIT] ~= each[T_LIMIT] or heard[T_WINDOW] ~= each[T_WINDOW] then
      heard[T_LIMIT], heard[T_WINDOW] = each[T_LIMIT], each[T_WINDOW]
      keeper[K_VERSION] = keeper[K_VERSION] + 1
    end
    heard[T_AT] = now
  end
end

local function told_by(keeper, now)
  local told = {}
  for place, each in ipairs(keeper[K_HEARD]) do
    told[place] = {each[T_NAME], each[T_LIMIT], each[T_WINDOW], now - each[T_AT]}
  end
  return told
end

local function was_away(keeper, ask, now)
  for _, each in ipairs(keeper[K_WORKERS]) do
    if each[W_NAME] ~= ask[WORKER] and now - each[W_SEEN] <= QUIET then return false end
  end
  return true
end

local function late(keeper)
  return {0, 0, #keeper[K_WORKERS], 0, 0, 0, 0, {}, 0, 0, keeper[K_VERSION], {}, keeper[K_LAST], {}, {}}, true
end

local function exchange(keeper, clock, ask)
  local known = named(keeper[K_WORKERS], ask[WORKER])
  if known and ask[NUMBER] <= known[W_NUMBER] then return late(keeper) end
  local now = present(keeper, clock, ask, known)
  local forgot = not known and ask[SINCE] >= 0
  local away = forgot or ask[ALONE] and was_away(keeper, ask, now)
  local worker = met(keeper, ask, known, now)
  if away and now > keeper[K_RETURNING] + RETURN then
    keeper[K_RETURNING], keeper[K_CLAIMED] = now + RETURN, 0
    for _, each in ipairs(keeper[K_WORKERS]) do keeper[K_CLAIMED] = keeper[K_CLAIMED] + each[W_SHARE] end
  end
  pause(keeper, ask[PAUSE], now)
  hear(keeper, ask[TOLD], now)
  local slots, others = slots_of(keeper, ask, worker, now)
  local room = true
  for _, each in ipairs(ask[SLOTS]) do room = room and slots > each[S_HELD] end
  local leases, again = leases_of(keeper, ask, worker, now, room)
  slots = kept_of(ask, worker, slots, leases)
  local beat = beat_of(keeper, ask, worker, again, others, now)
  local using = using_of(keeper, ask, worker, now)
  if ask[LEAVES] then
    local _, place = named(keeper[K_WORKERS], ask[WORKER])
    table.remove(keeper[K_WORKERS], place)
    gone[#gone + 1] = ask[WORKER]
  end
  return {
    max(0, keeper[K_PAUSED] - now),
    max(0, keeper[K_RETURNING] - now),
    #keeper[K_WORKERS],
    share_of(keeper, ask, worker),
    using,
    again,
    beat,
    leases,
    slots,
    others,
    keeper[K_VERSION],
    ask[VERSION] ~= keeper[K_VERSION] and told_by(keeper, now) or {},
    now,
    given_of(keeper, ask, now),
    usual_of(keeper, ask),
  }
end

-- flatout/policies/pacing/leases_log.py

local BATCHES = 1024

local function log_exchange(batch, place, kept_at, kept)
  if batch ~= '' then redis.call('RPUSH', KEYS[2], batch) end
  if redis.call('LLEN', KEYS[2]) > BATCHES then
    redis.call('LPOP', KEYS[2])
    redis.call('HINCRBY', KEYS[3], 'first', 1)
  end
  if kept ~= '' then redis.call('HSET', KEYS[3], 'kept_at', kept_at, 'kept', kept) end
  local first = tonumber(redis.call('HGET', KEYS[3], 'first') or '0')
  local ends = first + redis.call('LLEN', KEYS[2])
  local read = {ends, 0, ''}
  if place < first or place > ends or (place == 0 and ends > 0) then
    local state = redis.call('HMGET', KEYS[3], 'kept_at', 'kept')
    if state[1] then read[2], read[3], place = tonumber(state[1]), state[2], tonumber(state[1]) end
    if place > ends then place = 0 end
  end
  if place < ends then
    for _, each in ipairs(redis.call('LRANGE', KEYS[2], max(0, place - first), -1)) do read[#read + 1] = each end
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[3], ARGV[2])
  return read
end

-- flatout/policies/pacing/reports.py

local SUMS, HEARD, TARGET = 1, 2, 3
local S_INPUT, S_OUTPUT, S_SENT, S_SECONDS = 3, 4, 8, 9
local KEPT = 90
local target = string.match(KEYS[1], '[^:]*$')

local function spread(ring, more, clock)
  local seconds = more[S_SECONDS]
  if seconds <= 0 then return end
  local begin = clock - math.min(seconds, KEPT - 1)
  for at = math.floor(begin), math.floor(clock) do
    local part, slot = (math.min(clock, at + 1) - math.max(begin, at)) / seconds, at % KEPT + 1
    local known = ring[slot][1] == at and ring[slot] or {at, 0, 0, 0}
    ring[slot] = {
      at,
      known[2] + more[S_SENT] * part,
      known[3] + more[S_INPUT] * part,
      known[4] + more[S_OUTPUT] * part,
    }
  end
end

local function nothing_summed(clock)
  local ring = {}
  for slot = 1, KEPT do ring[slot] = {-1, 0, 0, 0} end
  return {clock, {0, 0, 0, 0, 0, 0, 0, 0, 0}, '', ring}
end

local function hear_report(worker, given, clock)
  if given ~= '' then
    local report, field = cmsgpack.unpack(given), target .. ':' .. worker
    local before, summed = redis.call('HGET', KEYS[4], field), redis.call('HGET', KEYS[4], target)
    before = before and cmsgpack.unpack(before)[SUMS] or report[HEARD]
    summed = summed and cmsgpack.unpack(summed) or nothing_summed(clock)
    local more = {}
    for place, sum in ipairs(report[SUMS]) do
      more[place] = sum - before[place]
      summed[2][place] = summed[2][place] + more[place]
    end
    summed[3] = report[TARGET]
    spread(summed[4], more, clock)
    redis.call('HSET', KEYS[4], target, cmsgpack.pack(summed), field, given)
    redis.call('EXPIRE', KEYS[4], ARGV[2])
  end
  for _, name in ipairs(gone) do redis.call('HDEL', KEYS[4], target .. ':' .. name) end
end

local state = redis.call('GET', KEYS[1])
local keeper = state and cmsgpack.unpack(state) or {0, 0, 0, -ACTIVE, 0, 0, {}, {}, {}, {}}
local ask = cmsgpack.unpack(ARGV[1])
local granted, overtaken = exchange(keeper, clock, ask)
redis.call('SET', KEYS[1], cmsgpack.pack(keeper), 'EX', ARGV[2])  -- first: a full server refuses it, and with it all
if not overtaken then hear_report(ask[WORKER], ARGV[8], clock) end
return {cmsgpack.pack(granted), unpack(log_exchange(ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]))}
