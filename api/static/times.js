// Keeps relative times right while a page lies open, and says exact ones in the reader's own zone too.

export function keepTimes() {
  tell();
  setInterval(tell, 30_000);
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time");
    if (!time || time.dataset.local) return;
    time.dataset.local = "1";
    const local = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    if (!/UTC$/.test(local)) time.title += ` · ${local}`;
  });
}

function tell() {
  const words = document.body.dataset, now = Date.now();
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = Math.round((now - Date.parse(time.dateTime)) / 1000);
    if (Math.abs(seconds) < 60 || Math.abs(seconds) > 72_000) continue;
    time.textContent = (seconds > 0 ? words.ago : words.in).replace("{}", length(Math.abs(seconds), words.units.split(" ")));
  }
}

function length(seconds, [, hour, minute]) {
  const hours = Math.floor(seconds / 3600), minutes = Math.floor((seconds % 3600) / 60);
  if (!hours) return `${minutes} ${minute}`;
  return minutes ? `${hours} ${hour} ${minutes} ${minute}` : `${hours} ${hour}`;
}
