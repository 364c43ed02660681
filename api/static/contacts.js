// The field that asks for whom a ticket is: who fits what is typed so far is offered. Without it the server looks when the form is sent.

const PAUSE = 150;

export function startContacts() {
  for (const input of document.querySelectorAll("[data-contacts]")) {
    let pause;
    input.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => look(input), PAUSE);
    });
  }
}

async function look(input) {
  const text = input.value.trim();
  if (text.length < 2) return;
  const answer = await fetch(`${input.dataset.contacts}?q=${encodeURIComponent(text)}`).catch(() => undefined);
  // What was typed meanwhile has a question of its own.
  if (!answer?.ok || answer.redirected || input.value.trim() !== text) return;
  const made = new DOMParser().parseFromString(await answer.text(), "text/html");
  input.list.replaceChildren(...made.querySelectorAll("option"));
}
