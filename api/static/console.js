// What improves pages that work without it: keys, live rows, the replay slider, relative times, forms that ask or send themselves.
import { startCompose } from "./compose.js";
import { startBulk } from "./bulk.js";
import { startConnect } from "./connect.js";
import { startContacts } from "./contacts.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { focusFirst } from "./panels.js";
import { startReplay } from "./replay.js";
import { startRows } from "./rows.js";
import { keepTimes } from "./times.js";

for (const element of document.querySelectorAll("[data-needs-script], .keys-button")) element.hidden = false;

startRows();
startBulk();
startKeys();
keepTimes();
startConnect();
startCompose();
startContacts();
startReplay(document.querySelector("[data-replay]"));
for (const region of document.querySelectorAll("[data-live]")) startLive(region);
// On a phone the navigation is one line that scrolls: where one is, is in sight.
const nav = document.querySelector(".nav"), here = nav?.querySelector("[aria-current]");
if (here) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;

// A panel closes when one goes elsewhere, and with Escape.
document.addEventListener("click", (event) => {
  for (const panel of document.querySelectorAll("details.menu[open]")) if (!panel.contains(event.target)) panel.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const panel = document.querySelector("details.menu[open]");
  if (panel) {
    panel.open = false;
    panel.querySelector("summary").focus();
  }
});

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("details.menu[open]") && !event.target.contains(document.activeElement.closest("input, textarea, select"))) focusFirst(event.target);
}, true);

// A second click on a slow line must not send the form twice.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  else event.target.dataset.sent = "1";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// What was just done is told once, not again after a reload.
const address = new URL(location.href);
if (address.searchParams.has("told")) {
  address.searchParams.delete("told");
  history.replaceState(history.state, "", address);
}
document.getElementById("obstacle")?.focus({ preventScroll: false });
// A key of the list opened this ticket to say something on it.
if (location.hash === "#text") document.getElementById("text")?.focus();
