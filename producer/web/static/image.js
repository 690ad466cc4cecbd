// An image's page: to its neighbours by the arrow keys, and texts to take along.

import { read } from "./post.js";

const STEPS = { ArrowLeft: "previous", ArrowRight: "next" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, textarea, select, pre")) return;
  document.getElementById(STEPS[event.key])?.click();
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button, document.getElementById(button.dataset.copy)));
}

const waiting = document.querySelector("[data-waits]");
if (waiting) setInterval(() => document.hidden || look(waiting.dataset).catch(() => {}), 1500);

async function look({ waits, state }) {
  const job = await read(`/api/v1/jobs/${waits}`);
  if (job.state !== state) location.reload();
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers lend the clipboard only to pages over https, or of this machine.
    getSelection().selectAllChildren(text);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
