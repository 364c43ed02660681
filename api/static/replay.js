// The replay slider: each event of a ticket is one step; the page around it shows what was known right after that event.
import { swapParts } from "./parts.js";

export function startReplay(card) {
  if (!card) return;
  const slider = card.querySelector("input[type=range]");
  let positions = card.dataset.positions.split(" "), moments = card.dataset.moments.split("\n");
  let asked = 0, timer = 0;

  slider.disabled = false;
  slider.addEventListener("input", () => {
    slider.setAttribute("aria-valuetext", moments[slider.value - 1] ?? "");
    const said = card.querySelector(".said-now");
    if (said) said.textContent = moments[slider.value - 1] ?? "";
    clearTimeout(timer);
    timer = setTimeout(() => show(Number(slider.value), true), 60);
  });
  card.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    slider.value = Number(slider.value) + Number(step.dataset.step);
    show(Number(slider.value), true).then(() => card.querySelector(`[data-step="${step.dataset.step}"]`)?.focus());
  });
  addEventListener("popstate", () => show(indexOf(location.search), false));
  document.addEventListener("replay:life", (event) => {
    const life = event.detail;
    if (!life) return;
    const atEnd = Number(slider.value) === positions.length;
    positions = life.dataset.positions.split(" ");
    moments = life.dataset.moments.split("\n");
    slider.max = positions.length;
    if (atEnd) slider.value = positions.length;
  });

  function indexOf(search) {
    const at = new URLSearchParams(search).get("as_of_position");
    if (!at) return positions.length;
    return Math.max(1, positions.filter((position) => Number(position) <= Number(at)).length);
  }

  async function show(index, push) {
    const mine = ++asked, address = new URL(card.dataset.address, location.origin);
    if (index < positions.length) address.searchParams.set("as_of_position", positions[index - 1]);
    const shown = new URL(address);
    address.searchParams.set("fragment", "1");
    card.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(address, { credentials: "same-origin" });
      if (answer.status === 401) location.reload();
      if (!answer.ok || mine !== asked) return;
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== asked) return;
      swapParts(made);
      document.querySelector("[data-compose]")?.toggleAttribute("hidden", index < positions.length);
      slider.value = index;
      slider.setAttribute("aria-valuetext", moments[index - 1] ?? "");
      if (push && shown.href !== location.href) history[replaying() ? "replaceState" : "pushState"](null, "", shown);
    } finally {
      if (mine === asked) card.removeAttribute("aria-busy");
    }
  }

  // Dragging makes one step of the browser's history, not one an event.
  function replaying() {
    return new URLSearchParams(location.search).has("as_of_position");
  }
}
