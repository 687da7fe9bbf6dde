// Keeps "5 min ago" true while a page is open. The words are those of ago in marks.go.

export function ago(seconds) {
  if (seconds < 45) return "just now";
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

function tick() {
  for (const el of document.querySelectorAll("time[datetime]")) {
    const words = ago((Date.now() - Date.parse(el.dateTime)) / 1000);
    if (el.textContent !== words) el.textContent = words;
  }
}

setInterval(tick, 15_000);
document.addEventListener("visibilitychange", tick);
