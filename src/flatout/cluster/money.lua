-- The pot of flatout/policies/shared_money.py, line by line: what it says there is not said again here.
--
-- KEYS[1]  the state: what `Pot` holds, as MessagePack
-- ARGV[1]  what to do: 'exchange', 'take_back' or 'mend'
-- ARGV[2]  its argument, as MessagePack: an `Ask`; or {per, worker, spent}; or {per, spent}
-- ARGV[3]  see clock.lua, which stands before this
-- Returns a `Granted`, as MessagePack; for 'take_back' whether it is done; for 'mend' nothing.

local PORTION, REST, SPARE, SILENT, STEP, FORGOTTEN = 0.02, 0.25, 0.02, 10, 1, 3600

-- The places of the fields: MessagePack arrays, counted from 1.
local WORKER, ABOUT, NUMBER, PER, USD, NEED, LENT, USED, SETTLED, TAKEN, TAKEN_AT, MADE, LEAVES, SINCE, HEARD =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
local P_MADE, P_PERIOD, P_USD, P_SPENT, P_LOANS, P_HEARD = 1, 2, 3, 4, 5, 6
local L_WORKER, L_ABOUT, L_NUMBER, L_SEEN, L_SINCE, L_LENT, L_USED, L_SETTLED, L_TAKEN, L_SPARE =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10

local max, min, floor = math.max, math.min, math.floor

local function period_of(per, at)
  if per == 'run' then return 0 end
  local day = floor(at / 86400)
  if per == 'day' then return day end
  local days = day + 719468
  local era = floor(days / 146097)
  local of_era = days - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local months = floor((5 * of_year + 2) / 153)
  return (era * 400 + year) * 12 + months + 2
end

local function held_by(loan)
  return max(loan[L_LENT] + loan[L_TAKEN], loan[L_USED], loan[L_SETTLED]) - loan[L_SETTLED]
end

local function is_silent(loan, clock)
  return clock - loan[L_SEEN] >= SILENT
end

local function cut(loan)
  loan[L_LENT] = min(loan[L_LENT], max(0, loan[L_USED] + loan[L_SPARE] - loan[L_TAKEN]))
end

local function keep(pot, wanted)
  local loans = {}
  for _, loan in ipairs(pot[P_LOANS]) do
    if wanted(loan) then loans[#loans + 1] = loan end
  end
  pot[P_LOANS] = loans
end

local function turn(pot, clock, per)
  if pot[P_MADE] == 0 then pot[P_MADE] = clock end
  local period = period_of(per, clock)
  if period > pot[P_PERIOD] then
    pot[P_PERIOD], pot[P_SPENT] = period, 0
    keep(pot, function(loan) return not is_silent(loan, clock) end)
    for _, loan in ipairs(pot[P_LOANS]) do loan[L_SETTLED] = loan[L_USED] end
  end
  for _, loan in ipairs(pot[P_LOANS]) do
    if is_silent(loan, clock) then cut(loan) end
  end
  for _, loan in ipairs(pot[P_LOANS]) do
    if clock - loan[L_SEEN] >= FORGOTTEN then pot[P_SPENT] = pot[P_SPENT] + held_by(loan) end
  end
  keep(pot, function(loan) return clock - loan[L_SEEN] < (held_by(loan) ~= 0 and FORGOTTEN or SILENT) end)
end

local function held(pot)
  local sum = pot[P_SPENT]
  for _, loan in ipairs(pot[P_LOANS]) do sum = sum + held_by(loan) end
  return sum
end

local function of(pot, worker)
  for _, loan in ipairs(pot[P_LOANS]) do
    if loan[L_WORKER] == worker then return loan end
  end
end

local function settle(pot, loan, used)
  pot[P_SPENT] = pot[P_SPENT] + max(0, used - loan[L_SETTLED])
  loan[L_LENT], loan[L_USED], loan[L_SETTLED], loan[L_TAKEN] = used, used, used, 0
end

local function loan_of(pot, ask, clock)
  local loan = of(pot, ask[WORKER])
  if not loan then
    local lent, settled, taken = ask[LENT], ask[SETTLED], 0
    if ask[MADE] == pot[P_MADE] then
      lent, settled = ask[USED], ask[USED]
    elseif ask[MADE] > 0 then
      taken = ask[TAKEN]
    end
    loan = {ask[WORKER], ask[ABOUT], 0, clock, clock, lent, ask[USED], settled, taken, 0}
    table.insert(pot[P_LOANS], loan)
  end
  return loan
end

local function hear(pot, loan, ask, clock)
  loan[L_NUMBER], loan[L_SEEN] = ask[NUMBER], clock
  loan[L_LENT] = min(loan[L_LENT], ask[LENT])
  loan[L_USED], loan[L_SPARE] = ask[USED], SPARE * ask[USD]
  if ask[TAKEN] > loan[L_TAKEN] and period_of(ask[PER], ask[TAKEN_AT]) == pot[P_PERIOD] then
    pot[P_SPENT] = pot[P_SPENT] - (ask[TAKEN] - loan[L_TAKEN])
    loan[L_TAKEN] = ask[TAKEN]
  end
end

local function follow(pot, clock, ask)
  local loan, since = of(pot, ask[WORKER]), ask[SINCE] or -1 -- programs of before do not tell it
  if loan and ask[NUMBER] > loan[L_NUMBER] and since >= 0 then
    local step = clock - loan[L_SEEN] - since
    if step > STEP then
      for _, each in ipairs(pot[P_LOANS]) do each[L_SEEN] = min(clock, each[L_SEEN] + step) end
    end
  end
end

local function exchange(pot, clock, ask)
  if ask[MADE] == pot[P_MADE] and (ask[HEARD] or 0) > pot[P_HEARD] then pot[P_MADE] = clock end
  follow(pot, clock, ask)
  turn(pot, clock, ask[PER])
  pot[P_USD] = ask[USD]
  local loan, usd = loan_of(pot, ask, clock), 0
  if ask[NUMBER] > loan[L_NUMBER] then
    pot[P_HEARD] = pot[P_HEARD] + 1
    hear(pot, loan, ask, clock)
    local left = ask[USD] - held(pot)
    if 0 < ask[NEED] and ask[NEED] <= left then
      usd = max(ask[NEED], min(PORTION * ask[USD], REST * left))
      loan[L_LENT] = loan[L_LENT] + usd
    end
    if ask[LEAVES] then settle(pot, loan, ask[USED]) end
  end
  return {usd, loan[L_LENT], ask[USD] - held(pot), loan[L_SETTLED], loan[L_TAKEN], pot[P_MADE], pot[P_HEARD]}
end

local function take_back(pot, clock, per, worker, spent)
  turn(pot, clock, per)
  local loan = of(pot, worker)
  if loan and not is_silent(loan, clock) then return false end
  if loan then settle(pot, loan, min(spent, loan[L_SETTLED] + held_by(loan))) end
  return true
end

local function mend(pot, clock, per, spent)
  turn(pot, clock, per)
  pot[P_SPENT] = spent
  keep(pot, function(loan) return not is_silent(loan, clock) end)
end

local state = redis.call('GET', KEYS[1])
local pot = state and cmsgpack.unpack(state) or {0, 0, 0, 0, {}}
pot[P_HEARD] = pot[P_HEARD] or 0 -- programs of before do not count
local given, answer = cmsgpack.unpack(ARGV[2]), ''
if ARGV[1] == 'exchange' then
  answer = cmsgpack.pack(exchange(pot, clock, given))
elseif ARGV[1] == 'take_back' then
  answer = cmsgpack.pack(take_back(pot, clock, given[1], given[2], given[3]))
else
  mend(pot, clock, given[1], given[2])
end
redis.call('SET', KEYS[1], cmsgpack.pack(pot))
return answer
