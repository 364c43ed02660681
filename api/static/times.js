// Keeps relative times and what is left of a target right while a page lies open, and says exact ones in the reader's own zone too.
import { now } from "./clock.js";

const EVERY = 20_000, DAY = 86_400, YEAR = 365 * DAY;

export function keepTimes() {
  tell();
  setInterval(tell, EVERY);
  // A page that was hidden or a machine that slept is right again at once.
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && tell());
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time");
    if (!time || time.dataset.local) return;
    time.dataset.local = "1";
    const local = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    if (!/UTC$/.test(local)) time.title += ` · ${local}`;
  });
}

function tell() {
  const words = document.body.dataset, units = words.units.split(" ");
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = Math.round((now() - Date.parse(time.dateTime)) / 1000);
    if (Math.abs(seconds) < 60 || Math.abs(seconds) > 72_000) continue;
    change(time, (seconds > 0 ? words.ago : words.in).replace("{}", length(Math.abs(seconds), units)));
  }
  for (const left of document.querySelectorAll("[data-due]")) tellLeft(left, units);
}

// What is left until a target, and its bar; the words are the server's, with a place for the length.
function tellLeft(left, units) {
  const seconds = (Date.parse(left.dataset.due) - now()) / 1000, whole = Number(left.dataset.whole);
  if (Math.abs(seconds) >= YEAR) return;
  const kind = seconds < 0 ? "late" : seconds <= whole / 4 ? "risk" : "ok";
  left.classList.remove("ok", "risk", "late");
  left.classList.add(kind);
  change(left.querySelector("time"), (seconds < 0 ? left.dataset.late : left.dataset.left).replace("{}", length(Math.abs(seconds), units)));
  left.querySelector(".hide").hidden = kind !== "risk";
  left.querySelector("progress").value = kind === "late" ? 100 : whole ? Math.min(100, Math.round((100 * seconds) / whole)) : 0;
}

// Text that is as it was is left alone: a selection in it stays.
function change(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// As the server says a length: its two largest units, without seconds once there are minutes.
function length(seconds, [day, hour, minute, second]) {
  if (seconds < 60) return `${Math.max(1, Math.floor(seconds))} ${second}`;
  const parts = [];
  let rest = Math.floor(seconds / 60) * 60;
  for (const [size, unit] of [[DAY, day], [3_600, hour], [60, minute]]) {
    if (rest < size && !parts.length) continue;
    parts.push([Math.floor(rest / size), unit]);
    rest %= size;
  }
  return parts.slice(0, 2).filter(([count], place) => place === 0 || count).map((part) => part.join(" ")).join(" ");
}
