// The composer of a ticket: replies are put in where one writes, others see that one does, and one sees them.

const SIGN = 4_000;

export function startCompose() {
  const form = document.querySelector("[data-compose]"), present = document.querySelector("[data-presence]");
  if (present) document.addEventListener("presence", (event) => tell(present, event.detail));
  if (!form) return;
  const text = form.elements.text;
  let last = 0;
  text.addEventListener("input", () => {
    if (Date.now() - last < SIGN) return;
    last = Date.now();
    const body = new URLSearchParams({ csrf_token: form.elements.csrf_token.value });
    fetch(form.dataset.writing, { method: "POST", body, credentials: "same-origin" }).catch(() => {});
  });
  form.addEventListener("click", async (event) => {
    const link = event.target.closest("[data-reply]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const answer = await fetch(link.dataset.reply, { credentials: "same-origin" }).catch(() => null);
    if (!answer?.ok) return location.assign(link.href);
    link.closest("details").open = false;
    form.elements.visibility.value = "public";
    text.focus();
    text.setRangeText(await answer.text(), text.selectionStart, text.selectionEnd, "end");
    text.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

// "Ada, Luis" read, "Nora" writes: each in the sentence that the server gave in the reader's language.
function tell(present, others) {
  const names = (writing) => others.filter((other) => other.writing === writing).map((other) => other.name).join(", ");
  const said = [[names(true), present.dataset.writes], [names(false), present.dataset.reads]];
  present.textContent = said.filter(([who]) => who).map(([who, sentence]) => sentence.replace("{}", () => who)).join(" ");
  present.classList.toggle("writing", others.some((other) => other.writing));
  present.hidden = !others.length;
}
