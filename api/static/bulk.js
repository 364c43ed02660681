// Chosen rows of the queue and the bar that acts on them. Without this the bar is always there, below the table.
import { pressSummary } from "./panels.js";
import { currentRow, keepRow } from "./rows.js";

const form = document.querySelector("form[data-bulk]");
const bar = form?.querySelector("details.bulk"), count = form?.querySelector("[data-bulk-count]");
const said = document.querySelector("[data-bulk-said]");

const boxes = () => [...document.querySelectorAll('input[form="bulk"]')];
export const chosen = () => boxes().filter((box) => box.checked);

export function startBulk() {
  if (!form) return;
  form.classList.add("floating");
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-choose-page]")) choose(event.target.checked);
    else if (event.target.matches('input[form="bulk"]')) tell();
  });
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-choose-all], [data-choose-none]");
    if (!link) return;
    event.preventDefault();
    choose("chooseAll" in link.dataset);
  });
  form.addEventListener("submit", keepRow);
  // The form is that of all commands, so a key in a field of one must press that one's button.
  form.addEventListener("keydown", (event) => {
    const button = event.key === "Enter" && event.target.matches("input") && event.target.closest(".panel")?.querySelector("button[name=do]");
    if (!button) return;
    event.preventDefault();
    form.requestSubmit(button);
  });
  addEventListener("pageshow", () => tell(false)); // a browser that comes back fills boxes in after the scripts ran
  tell(false);
}

function choose(all) {
  for (const box of boxes()) box.checked = all;
  tell();
}

function tell(aloud = true) {
  const all = boxes(), some = all.filter((box) => box.checked), changed = some.filter((box) => box.dataset.changed).length;
  const words = [form.dataset[some.length === 1 ? "one" : "many"].replace("{}", some.length)];
  if (changed) words.push(form.dataset.changed.replace("{}", changed));
  const text = words.join(", ");
  const page = document.querySelector("[data-choose-page]");
  if (page) {
    page.checked = some.length > 0 && some.length === all.length;
    page.indeterminate = some.length > 0 && some.length < all.length;
  }
  // A panel that is being filled in stays, whatever becomes of the rows.
  form.hidden = !some.length && !form.querySelector("details.menu[open]");
  bar.open = !form.hidden;
  document.documentElement.classList.toggle("has-chosen", !form.hidden);
  count.textContent = text;
  if (aloud && said) said.textContent = text;
}

export function chooseRow() {
  const box = currentRow()?.querySelector('input[form="bulk"]');
  if (!box) return false;
  box.checked = !box.checked;
  tell();
  return true;
}

export function chooseNone() {
  if (!form || !chosen().length) return false;
  choose(false);
  return true;
}

// The command of this key, for the chosen rows; where none is, for the one that the keys stand on.
export function actOnChosen(key) {
  const target = form && /^[a-z]$/.test(key) && form.querySelector(`[data-bulk-key="${key}"]`);
  if (!target || (!chosen().length && !chooseRow())) return false;
  if (target.matches("summary")) pressSummary(target);
  else form.requestSubmit(target);
  return true;
}

// As `rowsToKeep`. A row stays chosen at the version that was seen when it was: what others did since is not acted on blindly.
export function chosenToKeep() {
  const kept = new Map(chosen().map((box) => [box.name, box.value]));
  return () => {
    if (!form) return;
    for (const box of boxes()) {
      const seen = kept.get(box.name);
      if (seen === undefined) continue;
      box.checked = true;
      if (seen !== box.value) box.dataset.changed = "1";
      box.value = seen;
    }
    tell(false);
  };
}
