// Panels that open below their summary: the first field of one that opens is where one writes.

export function focusFirst(panel) {
  panel.querySelector("textarea, input:not([type=hidden]), select")?.focus({ preventScroll: true });
}

// At once: the browser tells of an opened panel a moment later, and the next key may come before that.
export function pressSummary(summary) {
  summary.click();
  const panel = summary.parentElement;
  if (panel.matches(".menu[open]")) focusFirst(panel);
}
