// Replaces the mounts every few seconds, unless somebody is using a control in them or looks elsewhere.
const EVERY_MS = 5000;
const place = document.getElementById("mounts");

async function update() {
  const busy = place.contains(document.activeElement) || place.querySelector("details[open]");
  if (document.hidden || busy) return;
  try {
    const answer = await fetch("/mounts");
    if (answer.ok) place.innerHTML = await answer.text();
  } catch {
    // `procorefs serve` has ended; the page shows what was last known
  }
}

setInterval(update, EVERY_MS);
