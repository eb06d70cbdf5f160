"""The bucket of `limits.py` as a Redis script, on the server's clock.

One hash per upstream holds `requests` and `tokens` (Unix times at which each bucket is full again),
`rest` (Unix time) and `epoch` (how many rests were announced). Rates come with every call; 0 means
no limit. It disappears by itself when it says no more than an absent one.
"""

SCRIPT = """
local key, verb = KEYS[1], ARGV[1]
local requests_rate, burst = tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens_rate, tokens_burst = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local held = redis.call('HMGET', key, 'requests', 'tokens', 'rest', 'epoch')
local requests_full, tokens_full = tonumber(held[1] or 0), tonumber(held[2] or 0)
local rest, epoch = tonumber(held[3] or 0), held[4] or '0'

local function text(number) return string.format('%.17g', number) end

local function wait_of(full, rate, size, amount)
  if rate == 0 then return 0 end
  return math.max(full - now, 0) + (math.min(amount, size) - size) / rate
end

local function taken(full, rate, amount)
  if rate == 0 then return full end
  return math.max(full, now) + amount / rate
end

local function keep()
  redis.call('HSET', key, 'requests', text(requests_full), 'tokens', text(tokens_full),
             'rest', text(rest), 'epoch', epoch)
  local last = math.max(requests_full, tokens_full, rest, now)
  redis.call('EXPIRE', key, math.ceil(last - now) + 60)
end

if verb == 'reserve' then
  local amount = tonumber(ARGV[6])
  local wait = math.max(0, rest - now,
                        wait_of(requests_full, requests_rate, burst, 1),
                        wait_of(tokens_full, tokens_rate, tokens_burst, amount))
  requests_full = taken(requests_full, requests_rate, 1)
  tokens_full = taken(tokens_full, tokens_rate, amount)
  keep()
  return {text(wait), epoch, text(requests_full), text(tokens_full)}
end

if verb == 'confirm' then
  return {epoch}
end

if verb == 'give_back' then
  -- Only the last in line can give back: the waits of those behind it were computed with it.
  local is_last = held[1] == ARGV[8] and held[2] == ARGV[9] and epoch == ARGV[7]
  if is_last then
    if requests_rate > 0 then requests_full = requests_full - 1 / requests_rate end
    if tokens_rate > 0 then tokens_full = tokens_full - tonumber(ARGV[6]) / tokens_rate end
    keep()
  end
  return {is_last and '1' or '0'}
end

if verb == 'rest' then
  local until_ = now + tonumber(ARGV[6])
  if until_ > rest then
    rest = until_
    epoch = tostring(tonumber(epoch) + 1)
    if requests_rate > 0 then
      requests_full = math.max(requests_full, rest + (burst - 1) / requests_rate)
    end
    keep()
  end
  return {epoch}
end

if verb == 'settle' then
  local more = tonumber(ARGV[6])
  if tokens_rate > 0 then
    if more > 0 then
      tokens_full = taken(tokens_full, tokens_rate, more)
    else
      tokens_full = tokens_full + more / tokens_rate
    end
    keep()
  end
  return {text(tokens_full)}
end

return redis.error_reply('unknown verb ' .. verb)
"""
