// Keeps the page as it is on the server: asks for it again, and exchanges the parts that have changed.

const EVERY = 1500;

async function refresh() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const known = [...document.querySelectorAll(".live")].map((part) => part.id).join();
  const found = [...fresh.querySelectorAll(".live")].map((part) => part.id).join();
  if (known === found) document.querySelectorAll(".live").forEach((part) => exchange(part, fresh.getElementById(part.id)));
  else exchange(document.getElementById("content"), fresh.getElementById("content"));
}

function exchange(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return;
  // Somebody may be choosing there, or about to press a button by the keyboard.
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const chosen = [...part.querySelectorAll("select")].some((list) => !list.selectedOptions[0].defaultSelected);
  if (chosen || focused?.tagName === "SELECT") return;
  part.replaceChildren(...fresh.childNodes);
  if (focused?.id) document.getElementById(focused.id)?.focus();
}

setInterval(() => document.hidden || refresh().catch(() => {}), EVERY);
