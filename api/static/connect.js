// The page that connects a monitor: blocks are copied with one click, and the address is one that can be loaded again.

export function startConnect() {
  const place = document.querySelector("[data-place]");
  if (place) history.replaceState(history.state, "", place.dataset.place);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copies]");
    if (!button) return;
    const block = document.getElementById(button.dataset.copies), said = document.getElementById(`${button.dataset.copies}-said`);
    try {
      await navigator.clipboard.writeText(block.textContent);
      said.textContent = button.dataset.copied;
    } catch {
      // A page over plain HTTP may not write there: then the text is chosen, for the keys that copy it.
      getSelection().selectAllChildren(block);
      said.textContent = button.dataset.chosen;
    }
  });
}
