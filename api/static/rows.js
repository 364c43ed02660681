// The rows of a list: which one the keys stand on, and the list itself for the pages that are opened from it.

let at = null; // { name, place } of the row that the keys stand on

const rows = () => [...document.querySelectorAll("[data-rows] tr")].filter((row) => row.querySelector("a.title"));

export function startRows() {
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest?.("[data-rows] tr");
    if (row && row.querySelector("a.title")) mark(row);
  });
  document.addEventListener("click", (event) => event.target.closest?.("[data-rows] a.title") && keepList());
  const back = sessionStorage.getItem("row");
  sessionStorage.removeItem("row");
  if (back && rows().length) {
    const { name, place } = JSON.parse(back);
    focus(found(name, place));
  }
}

function mark(row) {
  const all = rows();
  for (const other of all) if (other !== row) other.removeAttribute("aria-current");
  row.setAttribute("aria-current", "true");
  at = { name: row.id, place: all.indexOf(row) };
}

// The row itself, or where it is gone whatever stands in its place now.
function found(name, place) {
  const all = rows();
  return (name && all.find((row) => row.id === name)) || all[Math.min(place, all.length - 1)];
}

export function currentRow() {
  if (!at) return null;
  const row = found(at.name, at.place);
  return row?.getAttribute("aria-current") ? row : null;
}

function focus(row) {
  if (!row) return;
  row.querySelector("a.title").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

export function moveRow(step) {
  const all = rows();
  if (!all.length) return false;
  const here = currentRow();
  // Where the row is gone, the next one is what stands in its place now.
  const next = here ? all.indexOf(here) + step : at ? at.place + (step > 0 ? 0 : -1) : step > 0 ? 0 : all.length - 1;
  focus(all[Math.min(all.length - 1, Math.max(0, next))]);
  return true;
}

export function openRow(anchor = "") {
  const title = currentRow()?.querySelector("a.title");
  if (!title) return false;
  keepList();
  location.assign(title.href + anchor);
  return true;
}

// After the next load the keys stand where they stood, or on what came in its place.
export function keepRow() {
  if (at) sessionStorage.setItem("row", JSON.stringify(at));
}

// What is needed to put a list that is made anew in the place of this one: call it before, and what it gives after.
export function rowsToKeep() {
  const here = currentRow(), focused = document.activeElement?.closest("[data-rows] tr");
  const on = focused && document.activeElement.matches("input") ? "input[type=checkbox]" : "a.title";
  return () => {
    // A row that is gone leaves none in its place: a key that acts must not meet another ticket than the one that was seen.
    const row = here && document.getElementById(here.id);
    if (!row) return;
    if (focused) row.querySelector(on)?.focus({ preventScroll: true });
    mark(row);
  };
}

function keepList() {
  const items = rows().map((row) => row.querySelector("a.title")).map((title) => title.getAttribute("href"));
  sessionStorage.setItem("list", JSON.stringify({ address: location.pathname + location.search, items }));
}

function list() {
  const kept = JSON.parse(sessionStorage.getItem("list") ?? "null");
  const place = kept ? kept.items.findIndex((item) => new URL(item, location.origin).pathname === location.pathname) : -1;
  return place < 0 ? null : { ...kept, place };
}

// The address of the list that this page was opened from; null: from elsewhere.
export const listBefore = () => list()?.address ?? null;

export function neighbour(step) {
  const kept = list(), next = kept?.items[kept.place + step];
  if (!next) return false;
  location.assign(next);
  return true;
}
