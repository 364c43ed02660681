// Live pages: listen to the stream of changes, fetch the changed part, and say so politely. Where the stream is lost, look
// again every ten seconds and say since when.
import { chosenToKeep } from "./bulk.js";
import { swapParts } from "./parts.js";
import { rowsToKeep } from "./rows.js";

// The stream beats every 15 s; two missed ones and it is dead, whatever the browser thinks (a frozen server, a cut cable).
const POLL = 10_000, REST = 700, AGING = 60_000, SILENCE = 35_000;

export function startLive(region) {
  const status = document.querySelector("[data-live-status]"), news = document.querySelector("[data-live-news]");
  const ticket = region.dataset.liveTicket;
  let lost = null, timer = 0, silence = 0, pending = false, busy = false;
  let source = null;
  listen();

  function listen() {
    source = new EventSource(region.dataset.live);
    source.addEventListener("open", opened);
    source.addEventListener("error", failed);
    source.addEventListener("change", changed);
    source.addEventListener("beat", heard);
    source.addEventListener("presence", (event) => document.dispatchEvent(new CustomEvent("presence", { detail: JSON.parse(event.data).others })));
    heard();
  }

  function heard() {
    clearTimeout(silence);
    silence = setTimeout(silent, SILENCE);
  }

  function silent() {
    if (!source) return;
    source.close();
    failed();
  }

  function opened() {
    heard();
    if (lost) refresh();
    lost = null;
    clearInterval(timer);
    timer = 0;
    region.dataset.stream = "open";
    say(status?.dataset.on);
  }

  function failed() {
    if (!lost) {
      lost = new Date();
      region.dataset.stream = "lost";
      say(status?.dataset.off.replace("{}", `${lost.toISOString().slice(11, 19)} UTC`));
    }
    timer ||= setInterval(refresh, POLL);
    // The browser tries again by itself, except after a refusal; then it is tried after a while.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => source?.readyState === EventSource.CLOSED && listen(), POLL);
  }

  function changed(event) {
    heard();
    const change = JSON.parse(event.data);
    if (ticket && !change.more && !change.tickets.includes(ticket)) return;
    refresh();
  }

  // A browser grants few connections to one server, whatever the number of tabs: a hidden one lets go of its.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") {
      source?.close();
      source = null;
      clearInterval(timer);
      clearTimeout(silence);
      timer = 0;
    } else if (!source) {
      listen();
      refresh();
    }
  });

  // Ages grow even while nothing happens.
  setInterval(() => document.visibilityState === "visible" && refresh(), AGING);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());

  function say(text) {
    if (status && text && status.textContent !== text) status.textContent = text;
  }

  async function refresh() {
    if (busy) {
      pending = true;
      return;
    }
    busy = true;
    try {
      await (ticket ? refreshTicket() : refreshRows());
    } catch {
      // The stream's own state says what is wrong.
    }
    setTimeout(() => {
      busy = false;
      if (pending) {
        pending = false;
        refresh();
      }
    }, REST);
  }

  async function fetched(address) {
    const answer = await fetch(address, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(answer.status);
    return answer.text();
  }

  async function refreshRows() {
    const address = new URL(region.dataset.fragmentUrl, location.origin);
    address.searchParams.set("fragment", "rows");
    const text = await fetched(address);
    // An open panel or a chosen row stays where it is.
    if (region.querySelector("details[open]")) return;
    const before = new Set([...region.querySelectorAll("tr[data-number]")].map((row) => row.dataset.number));
    const again = [chosenToKeep(), rowsToKeep()];
    const made = new DOMParser().parseFromString(text, "text/html");
    region.replaceChildren(...made.body.childNodes);
    for (const element of region.querySelectorAll("[data-needs-script]")) element.hidden = false;
    for (const put of again) put();
    const arrived = [...region.querySelectorAll("tr[data-number]")].filter((row) => !before.has(row.dataset.number));
    for (const row of arrived) row.classList.add("new-row");
    if (arrived.length && before.size + arrived.length && news && status) {
      news.textContent = status.dataset.new.replace("{}", arrived.map((row) => `${row.dataset.number} ${row.querySelector("a.title").textContent}`).join("; "));
    }
  }

  async function refreshTicket() {
    // A page of the past stays as it is, and so does one that somebody is writing on.
    const here = new URLSearchParams(location.search);
    if (here.has("as_of") || here.has("as_of_position")) return;
    const address = new URL(region.dataset.fragmentUrl, location.origin);
    address.searchParams.set("fragment", "1");
    const made = new DOMParser().parseFromString(await fetched(address), "text/html");
    const open = document.querySelector("details.menu[open]"), written = document.querySelector("[data-compose] textarea")?.value;
    swapParts(made, open || written ? ["line", "facts"] : undefined);
    document.dispatchEvent(new CustomEvent("replay:life", { detail: made.querySelector('[data-part="replay"]') }));
    if (news) news.textContent = news.dataset.changed;
  }
}
