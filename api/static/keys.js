// Keys, where they help: j and k through lists, letters for actions, g and a letter for places, ? for all of them. Never while
// somebody writes, never with a modifier, and not at all where somebody has turned them off.
import { actOnChosen, chooseNone, chooseRow, chosen } from "./bulk.js";
import { pressSummary } from "./panels.js";
import { currentRow, keepRow, listBefore, moveRow, neighbour, openRow } from "./rows.js";

const places = { q: "/console", m: "/console?assignee=me", a: "/console/alerts", d: "/console/deliveries", r: "/console/requests", k: "/console/measures", l: "/console/workload", v: "/console/views" };
const SWITCH = "keys";
let waiting = false, on = true;

export function startKeys() {
  document.addEventListener("keydown", onKey);
  for (const opener of document.querySelectorAll("[data-opens]")) opener.addEventListener("click", () => open(opener.dataset.opens));
  const box = document.querySelector("[data-keys-switch]");
  turn(stored() !== "off");
  if (!box) return;
  box.checked = on;
  box.addEventListener("change", () => {
    turn(box.checked);
    try {
      localStorage.setItem(SWITCH, on ? "on" : "off");
    } catch {
      // A browser that keeps nothing: it holds for this page.
    }
  });
}

function stored() {
  try {
    return localStorage.getItem(SWITCH);
  } catch {
    return null;
  }
}

function turn(to) {
  on = to;
  document.documentElement.classList.toggle("no-keys", !on);
}

function open(id) {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
}

function typing(target) {
  return target.closest?.("input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, select, dialog[open]") || target.isContentEditable;
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const key = event.key, inRow = event.target.closest?.("[data-rows] tr");
  if (typing(event.target)) {
    if (key === "Escape" && event.target.id === "find") event.target.blur();
    return;
  }
  // What belongs to a row that has the focus is no shortcut: it works in any case.
  if (inRow && (key === "ArrowDown" || key === "ArrowUp") && !event.shiftKey) {
    if (moveRow(key === "ArrowDown" ? 1 : -1)) event.preventDefault();
    return;
  }
  if (inRow && key === "Enter" && event.target.matches("input")) {
    event.preventDefault();
    openRow();
    return;
  }
  // A key that is held down moves on; it does not act again and again.
  if (!on || (event.repeat && key !== "j" && key !== "k")) return;
  if (waiting) {
    waiting = false;
    if (places[key]) {
      event.preventDefault();
      location.assign(carried(places[key]));
    }
    return;
  }
  if (command(key)) event.preventDefault();
}

function command(key) {
  const listed = document.querySelector("[data-rows]");
  switch (key) {
    case "g": return (waiting = true);
    case "?": return open("keys"), true;
    case "/": return document.getElementById("find")?.select(), true;
    case "j": return listed ? moveRow(1) : neighbour(1);
    case "k": return listed ? moveRow(-1) : neighbour(-1);
    case "u": return !listed && (location.assign(listBefore() ?? carried("/console")), true);
    case ".": return listed && (location.assign(carried(location.pathname)), true);
    case "w": return press(document.querySelector("details.when > summary"));
    case "m": return comment();
    case "[": case "]": return document.querySelector(`[data-step="${key === "[" ? -1 : 1}"]`)?.click(), true;
    case "Escape": return !document.querySelector("details.menu[open]") && chooseNone();
    case "o": return openRow();
    case "x": return chooseRow();
    case "n": return document.querySelector("[data-new]")?.click(), true;
    case "c": return comment() || openRow("#text");
    case "y": case "t": if (!chosen().length && actOnRow(key)) return true;
  }
  return actOnChosen(key) || press(/^[a-z]$/.test(key) && document.querySelector(`[data-key="${key}"]`));
}

function carried(path) {
  const here = new URLSearchParams(location.search), to = new URL(path, location.origin);
  for (const name of ["as_of", "as_of_position"]) if (here.has(name)) to.searchParams.set(name, here.get(name));
  return to;
}

function comment() {
  const field = document.querySelector("[data-compose] textarea");
  field?.focus();
  return Boolean(field);
}

// A button or panel that names its key.
function press(target) {
  if (!target) return false;
  if (target.matches("summary")) pressSummary(target);
  else target.form.requestSubmit(target);
  return true;
}

// The row that the keys stand on is acknowledged or taken, by the same form as on its own page.
function actOnRow(key) {
  const row = currentRow(), form = document.getElementById("row-act");
  if (!row?.dataset.number || !form) return false;
  form.action = `/console/tickets/${row.dataset.number}/${key === "y" ? "acknowledge" : "take"}`;
  form.elements.version.value = row.dataset.version;
  keepRow();
  form.requestSubmit();
  return true;
}
