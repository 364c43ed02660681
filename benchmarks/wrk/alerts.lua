-- wrk -s alerts.lua URL -- TOKEN MEMBERS REPEATS
--   MEMBERS  alerts a delivery
--   REPEATS  share of alerts (0..1) that are one of 100 known ones; the rest is new each time
local token, members, repeats, counter, thread_id = "", 1, 0, 0, tostring(os.time())

function init(args)
  token, members, repeats = args[1], tonumber(args[2]), tonumber(args[3])
  math.randomseed(os.time())
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. token
end

local function alert()
  local name, number
  if math.random() < repeats then
    number = math.random(1, 100)
    name = "known-" .. number
  else
    counter = counter + 1
    number = counter
    name = thread_id .. "-" .. counter
  end
  return '{"status":"firing","labels":{"alertname":"HighErrorRate","instance":"srv-' .. name .. '","service":"service-' ..
    number % 50 .. '","severity":"critical","env":"prod","team":"shop"},"annotations":{"summary":"Errors over 5 % on srv-' ..
    name .. '","description":"Too many answers with 5xx for ten minutes."},"startsAt":"2026-03-02T10:00:00.123Z",' ..
    '"endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus/graph","fingerprint":"00aa11bb22cc33dd"}'
end

function request()
  local alerts = {}
  for place = 1, members do alerts[place] = alert() end
  local body = '{"version":"4","groupKey":"{}","truncatedAlerts":0,"status":"firing","receiver":"tocsin","groupLabels":{},' ..
    '"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager","alerts":[' .. table.concat(alerts, ",") .. "]}"
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %.3f %.3f %.3f\n", summary.requests, summary.errors.status + summary.errors.read +
    summary.errors.write + summary.errors.timeout + summary.errors.connect, summary.duration, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency.max / 1000))
end
