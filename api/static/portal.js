// What improves the portal's pages, which work without it: a link is copied with one click, and a double click sends once.
import { startConnect } from "./connect.js";

for (const element of document.querySelectorAll("[data-needs-script]")) element.hidden = false;
startConnect();
document.getElementById("faults")?.focus();

document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  else event.target.dataset.sent = "1";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
