// Keys, where they help: j and k through lists, letters for actions, g and a letter for places, ? for all of them.

const places = { q: "/console", m: "/console?assignee=me", a: "/console/alerts", d: "/console/deliveries", r: "/console/requests", k: "/console/measures", l: "/console/workload" };
let waiting = false;

export function startKeys() {
  document.addEventListener("keydown", onKey);
  for (const opener of document.querySelectorAll("[data-opens]")) opener.addEventListener("click", () => open(opener.dataset.opens));
  const back = sessionStorage.getItem("row");
  if (back && document.querySelector("[data-rows]")) {
    document.getElementById(back)?.querySelector("a.title")?.focus();
    sessionStorage.removeItem("row");
  }
}

function open(id) {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
}

function typing(target) {
  return target.closest?.("input:not([type=range]):not([type=radio]), textarea, select, dialog[open]") || target.isContentEditable;
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
  const key = event.key;
  if (waiting) {
    waiting = false;
    if (places[key]) {
      event.preventDefault();
      location.assign(carried(places[key]));
    }
    return;
  }
  if (key === "g") waiting = true;
  else if (key === "?") open("keys");
  else if (key === "/" && document.getElementById("find")) document.getElementById("find").select();
  else if (key === "j" || key === "k") move(key === "j" ? 1 : -1);
  else if (key === "u" && !document.querySelector("[data-rows]")) location.assign(carried("/console"));
  else if (key === "." && document.querySelector("[data-rows]")) location.assign(carried(location.pathname));
  else if (key === "w") toggle(document.querySelector("details.when > summary"));
  else if (key === "m") document.querySelector("[data-compose] textarea")?.focus();
  else if (key === "n" && document.querySelector("[data-new]")) document.querySelector("[data-new]").click();
  else if (key === "[" || key === "]") document.querySelector(`[data-step="${key === "[" ? -1 : 1}"]`)?.click();
  else if ((key === "a" || key === "t") && actOnRow(key)) { /* done */ }
  else if (!press(key)) return;
  event.preventDefault();
}

function carried(path) {
  const here = new URLSearchParams(location.search), to = new URL(path, location.origin);
  for (const name of ["as_of", "as_of_position"]) if (here.has(name)) to.searchParams.set(name, here.get(name));
  return to;
}

function toggle(summary) {
  if (!summary) return;
  summary.click();
}

// A button or panel that names this key.
function press(key) {
  const target = /^[a-z]$/.test(key) && document.querySelector(`[data-key="${key}"]`);
  if (!target) return false;
  if (target.matches("summary")) toggle(target);
  else target.form.requestSubmit(target);
  return true;
}

const titles = () => [...document.querySelectorAll("[data-rows] a.title")];

function move(step) {
  const all = titles();
  if (!all.length) return;
  const row = document.activeElement?.closest("tr");
  const now = all.findIndex((title) => title.closest("tr") === row);
  const next = all[Math.min(all.length - 1, Math.max(0, now < 0 ? (step > 0 ? 0 : all.length - 1) : now + step))];
  next.focus();
  next.closest("tr").scrollIntoView({ block: "nearest" });
}

// The row that has the focus is acknowledged or taken, by the same form as on its own page.
function actOnRow(key) {
  const row = document.activeElement?.closest("[data-rows] tr"), form = document.getElementById("row-act");
  if (!row || !form) return false;
  form.action = `/console/tickets/${row.dataset.number}/${key === "a" ? "acknowledge" : "take"}`;
  form.elements.version.value = row.dataset.version;
  sessionStorage.setItem("row", row.dataset.number);
  form.requestSubmit();
  return true;
}
