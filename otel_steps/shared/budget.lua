-- Changes and reads accounts that many processes share, all at once: nobody sees one half done.
--
-- KEYS[1]   the number of the last batch that changed anything for this process
-- KEYS[2..] accounts, each one hash:
--   a, b             spent so far: tokens and nano-USD
--   d<day>, h<hour>  in place of these where the account is windows: nano-USD of a UTC day and of an hour of it
--   x, y             held by calls in flight, of either of the two
--   :<id>            what one of these calls holds: "<of x> <of y> <when it lapses>"
--   e                when to look for what has lapsed next
-- ARGV      batch number (0: changes nothing), operations as JSON, and in milliseconds: how long a hold lasts, an idle
--           account, a window, KEYS[1]; the time ("" for the server's)
--
-- An amount is a string of decimal digits everywhere: a number of Lua's is a double, exact to 2^53 only. Redis adds them
-- itself, in 64 bits; they are compared in two parts, of which each is exact. No total grows beyond 8 * 10^18, so nothing
-- overflows: above FULL nothing is added, and no amount that comes is larger than FULL.

local FULL = '4000000000000000000'
local SPLIT = 1000000000

local batch, operations = ARGV[1], cjson.decode(ARGV[2])
local lease, idle, window, memory = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = tonumber(ARGV[7])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A batch that comes twice, because its answer was lost, changes nothing the second time.
local changes = batch ~= '0'
if changes then
  changes = tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(batch)
  if changes then
    redis.call('SET', KEYS[1], batch, 'PX', memory)
  end
end

local function parts(text)
  return tonumber(string.sub(text, 1, -10)) or 0, tonumber(string.sub(text, -9)) or 0
end

local function whole(text)
  if not text or string.sub(text, 1, 1) == '-' then
    return '0'
  end
  return text
end

-- Whether the sum of three amounts is larger than a limit.
local function passes(first, second, third, limit)
  local high, low = parts(first)
  for _, text in ipairs({second, third}) do
    local more, rest = parts(text)
    high, low = high + more, low + rest
  end
  high, low = high + math.floor(low / SPLIT), low % SPLIT
  local limit_high, limit_low = parts(limit)
  return high > limit_high or (high == limit_high and low > limit_low)
end

local function add(key, field, amount)
  if amount ~= '0' and not passes(whole(redis.call('HGET', key, field)), '0', '0', FULL) then
    redis.call('HINCRBY', key, field, amount)
  end
end

local function keep(key, life)
  if redis.call('PTTL', key) < life - life / 100 then
    redis.call('PEXPIRE', key, string.format('%d', life))
  end
end

local function subtract(key, field, amount)
  if amount ~= '0' then
    redis.call('HINCRBY', key, field, '-' .. amount)
  end
end

local function let_go(key, field, held)
  local x, y = string.match(held, '^(%d+) (%d+) ')
  redis.call('HDEL', key, field)
  subtract(key, 'x', x)
  subtract(key, 'y', y)
end

local function look_again(key, at)
  local due = redis.call('HGET', key, 'e')
  if not due or tonumber(due) > at then
    redis.call('HSET', key, 'e', string.format('%d', at))
  end
end

-- Give back what killed processes held, and forget past windows; a look at the whole account, so not each time.
local function sweep(key)
  local due = redis.call('HGET', key, 'e')
  if not due or tonumber(due) > now then
    return
  end
  local hour = math.floor(now / 3600000)
  local again = now + 3600000
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    local kind, at = string.sub(field, 1, 1), tonumber(string.sub(field, 2))
    if kind == ':' then
      local lapses = tonumber(string.match(value, ' (%d+)$'))
      if lapses <= now then
        let_go(key, field, value)
      else
        again = math.min(again, lapses)
      end
    elseif (kind == 'd' and at < math.floor(hour / 24) - 1) or (kind == 'h' and at < hour - 24) then
      redis.call('HDEL', key, field)
    end
  end
  redis.call('HSET', key, 'e', string.format('%d', again))
end

local function spent_fields(account, hour)
  if account.window then
    return string.format('d%d', math.floor(hour / 24)), string.format('h%d', hour)
  end
  return 'a', 'b'
end

local answers = {}
for _, operation in ipairs(operations) do
  local this_hour = math.floor(now / 3600000)
  local hour = tonumber(operation.hour) or this_hour
  for _, account in ipairs(operation.accounts) do
    local key = KEYS[account.key]
    if changes then
      sweep(key)
      local held = operation.settle and redis.call('HGET', key, ':' .. operation.settle)
      if held then
        let_go(key, ':' .. operation.settle, held)
      end
      if operation.add then
        local first, second = spent_fields(account, hour)
        add(key, first, account.add[1])
        add(key, second, account.add[2])
        if account.window then
          look_again(key, now + 3600000)
        end
      end
    end
  end

  local refused = 0
  if operation.hold and changes then
    for place, account in ipairs(operation.accounts) do
      local key = KEYS[account.key]
      local first, second = spent_fields(account, this_hour)
      local found = redis.call('HMGET', key, first, second, 'x', 'y')
      if passes(whole(found[1]), whole(found[3]), account.hold[1], account.limit[1])
        or passes(whole(found[2]), whole(found[4]), account.hold[2], account.limit[2])
      then
        refused = place
        break
      end
    end
    if refused == 0 then
      local lapses = now + lease
      for _, account in ipairs(operation.accounts) do
        local key = KEYS[account.key]
        local held = account.hold[1] .. ' ' .. account.hold[2] .. ' ' .. string.format('%d', lapses)
        redis.call('HSET', key, ':' .. operation.hold, held)
        redis.call('HINCRBY', key, 'x', account.hold[1])
        redis.call('HINCRBY', key, 'y', account.hold[2])
        look_again(key, lapses)
      end
    end
  end

  local answer = {string.format('%d', refused)}
  for _, account in ipairs(operation.accounts) do
    local key = KEYS[account.key]
    keep(key, account.window and window or idle)
    local first, second = spent_fields(account, this_hour)
    local found = redis.call('HMGET', key, first, second, 'x', 'y')
    for i = 1, 4 do
      answer[#answer + 1] = whole(found[i])
    end
  end
  answers[#answers + 1] = answer
end
return answers
