// The history without a mouse, and with one: ranges of pictures, and what is chosen.

const tiles = document.getElementById("tiles");
const query = document.getElementById("q");
const STEPS = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (columns) => -columns,
  ArrowDown: (columns) => columns,
};

if (query.dataset.at) {
  const at = Number(query.dataset.at);
  query.focus();
  query.setSelectionRange(at, at + 1);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  event.preventDefault();
  query.focus();
});

// A narrow screen is for the pictures.
if (matchMedia("(max-width: 45rem)").matches) document.querySelector(".filters").open = false;

if (tiles) watch(tiles.closest("form"));
if (tiles) setInterval(() => document.hidden || renew().catch(() => {}), 3000);

/** Exchange what waits for its picture, when it has one. */
async function renew() {
  const waiting = [...tiles.querySelectorAll(".queued, .running")].map((mark) => mark.closest("a"));
  if (!waiting.length) return;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const link of waiting) {
    const found = fresh.querySelector(`#${link.closest("li").id} a`);
    if (found) link.replaceChildren(...found.childNodes);
  }
}

function watch(form) {
  const ticks = [...form.querySelectorAll('input[name="job"]')];
  const links = [...tiles.querySelectorAll("a")];
  const everything = form.elements.everything;
  const whole = document.getElementById("whole");
  let last = null;

  function tell() {
    const count = ticks.filter((tick) => tick.checked).length;
    const some = everything.checked ? "All found" : count ? `${count} chosen` : "None chosen";
    form.querySelector("output").textContent = some;
    for (const button of form.querySelectorAll("[formaction]")) button.disabled = !count && !everything.checked;
    whole.textContent = count === ticks.length ? "Untick" : "Tick page";
  }

  function turn() {
    const all = ticks.every((tick) => tick.checked);
    for (const tick of ticks) tick.checked = !all;
    tell();
  }

  whole.hidden = false;
  whole.addEventListener("click", turn);
  form.addEventListener("click", (event) => {
    const index = ticks.indexOf(event.target);
    if (index < 0) return;
    if (event.shiftKey && last !== null) {
      const [from, to] = [Math.min(index, last), Math.max(index, last)];
      for (const tick of ticks.slice(from, to + 1)) tick.checked = event.target.checked;
    }
    last = index;
  });

  tiles.addEventListener("keydown", (event) => {
    const index = links.indexOf(event.target);
    if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      turn();
    } else if (index >= 0 && event.key === " ") {
      ticks[index].checked = !ticks[index].checked;
    } else if (index >= 0 && event.key in STEPS && !event.altKey) {
      links[index + STEPS[event.key](columns(links))]?.focus();
    } else return;
    event.preventDefault();
    tell();
  });

  form.addEventListener("change", tell);
  addEventListener("pageshow", tell);
  tell();
}

function columns(links) {
  const top = links[0].getBoundingClientRect().top;
  const next = links.findIndex((link) => link.getBoundingClientRect().top > top);
  return next < 0 ? links.length : next;
}
