-- wrk script. args: kind mode seed
--   kind: alerta | alerta-prom | am | echo | helpdesk | rt | tocsin-prom | tocsin-prom1 | tocsin-ticket      mode: distinct | dup90 | dup100
local tcount = 0
function setup(thread) thread:set("tid", tcount); tcount = tcount + 1 end
function init(args)
  kind = args[1]; mode = args[2]; seed = args[3] or "0"; token = args[4] or ""
  n = 0
  math.randomseed(tonumber(seed) + tid * 7919)
  hdr = {["Content-Type"] = "application/json"}
  if token ~= "" then hdr["Authorization"] = token end
end
local function id()
  if mode == "dup100" or (mode == "dup90" and math.random() < 0.9) then
    return "pool" .. math.random(0, 99)
  end
  n = n + 1
  return "u" .. seed .. "x" .. tid .. "x" .. n
end
local mk = {}
mk["alerta"] = function()
  local k = id()
  return "/alert", '{"resource":"host-' .. k .. '","event":"HttpServerError","environment":"Production","severity":"major","service":["web"],"group":"Web","value":"Bad Gateway (501)","text":"Site is down on host ' .. k .. '","origin":"bench","type":"exceptionAlert","tags":["dc1"],"attributes":{"region":"EU"}}'
end
local function prom_alert(k)
  return '{"status":"firing","labels":{"alertname":"HighLoad","instance":"host-' .. k .. '","severity":"major","service":"web","environment":"Production"},"annotations":{"summary":"load high","description":"load on ' .. k .. ' above 10"},"startsAt":"2026-11-25T01:00:00.000000000Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://127.0.0.1:9090/graph"}'
end
mk["alerta-prom"] = function()
  local t = {}
  for i = 1, 10 do t[i] = prom_alert(id()) end
  return "/webhooks/prometheus", '{"version":"4","groupKey":"{}:{alertname=\\"HighLoad\\"}","status":"firing","receiver":"bench","groupLabels":{"alertname":"HighLoad"},"commonLabels":{"alertname":"HighLoad"},"commonAnnotations":{},"externalURL":"http://127.0.0.1:9093","alerts":[' .. table.concat(t, ",") .. ']}'
end
mk["am"] = function()
  local k = id()
  return "/api/v2/alerts", '[{"labels":{"alertname":"HighLoad","instance":"host-' .. k .. '","severity":"major","service":"web","environment":"Production"},"annotations":{"summary":"load high","description":"load on ' .. k .. ' above 10"},"generatorURL":"http://127.0.0.1:9090/graph"}]'
end
local function webhook(size)
  local t = {}
  for i = 1, size do t[i] = prom_alert(id()) end
  return "/hooks/alertmanager", '{"version":"4","groupKey":"{}:{alertname=\\"HighLoad\\"}","status":"firing","receiver":"bench","groupLabels":{"alertname":"HighLoad"},"commonLabels":{"alertname":"HighLoad"},"commonAnnotations":{},"externalURL":"http://127.0.0.1:9093","alerts":[' .. table.concat(t, ",") .. ']}'
end
mk["tocsin-prom"] = function() return webhook(10) end
mk["tocsin-prom1"] = function() return webhook(1) end
mk["tocsin-ticket"] = function()
  local k = id()
  return "/api/v1/incidents", '{"title":"Site down ' .. k .. '","description":"Host ' .. k .. ' returns 501 since 01:00","impact":"medium","urgency":"medium"}'
end
mk["echo"] = function()
  local _, b = mk["alerta"](); return "/echo", b
end
mk["helpdesk"] = function()
  local k = id()
  return "/api/tickets/", '{"queue":1,"title":"Site down ' .. k .. '","description":"Host ' .. k .. ' returns 501 since 01:00","submitter_email":"","priority":3}'
end
mk["rt"] = function()
  local k = id()
  return "/REST/2.0/ticket", '{"Queue":"General","Subject":"Site down ' .. k .. '","Content":"Host ' .. k .. ' returns 501 since 01:00","ContentType":"text/plain"}'
end
function request()
  local path, body = mk[kind]()
  return wrk.format("POST", path, hdr, body)
end
function done(s, l, r)
  io.write(string.format('JSON {"rps":%.1f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"n":%d,"non2xx":%d,"sock":%d}\n',
    s.requests / (s.duration / 1e6), l:percentile(50) / 1e3, l:percentile(99) / 1e3, l.max / 1e3, s.requests, s.errors.status,
    s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout))
end
