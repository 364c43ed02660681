// Puts the parts of a fetched page in the place of the same parts here.

export function swapParts(made, only) {
  for (const part of made.querySelectorAll("[data-part]")) {
    const name = part.dataset.part;
    if (name === "replay" || (only && !only.includes(name))) continue;
    const here = document.querySelector(`[data-part="${name}"]`);
    if (!here) continue;
    const opened = new Set([...here.querySelectorAll("li[id] details.raw[open]")].map((raw) => raw.closest("li").id));
    here.replaceChildren(...part.childNodes);
    for (const id of opened) here.querySelector(`#${CSS.escape(id)} details.raw`)?.setAttribute("open", "");
    for (const element of here.querySelectorAll("[data-needs-script], .keys-button")) element.hidden = false;
  }
  const version = made.querySelector('[data-part="head"] input[name="version"]')?.value;
  const compose = document.querySelector('[data-compose] input[name="version"]');
  // A comment does not depend on what others did meanwhile; the server still checks it.
  if (version && compose) compose.value = version;
}
