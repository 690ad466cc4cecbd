// Follows the pictures of a batch: steps, previews, and the picture itself as soon as it is made.
import { read } from "/static/post.js";

const EVERY = 700;
const course = document.getElementById("course");
const previews = document.getElementById("previews");

previews.checked = localStorage.getItem("previews") !== "no";
previews.addEventListener("change", () => localStorage.setItem("previews", previews.checked ? "yes" : "no"));

document.querySelectorAll("[data-command]").forEach((button) => {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.command);
    button.textContent = "Copied";
  });
});
if (course?.dataset.waits) follow();

async function follow() {
  for (;;) {
    try {
      if (!document.hidden) {
        const said = await read(`/make/progress/${course.dataset.batch}?previews=${previews.checked ? 1 : 0}`);
        said.jobs.forEach(show);
        if (said.jobs.some((job) => job.state === "running")) document.getElementById("no-worker")?.remove();
        tell(said.text);
        if (said.done) return;
      }
    } catch (error) {
      tell(error.message);
    }
    await new Promise((go) => setTimeout(go, EVERY));
  }
}

function tell(text) {
  const line = document.getElementById("course-text");
  if (line.textContent !== text) line.textContent = text;
}

function show(job) {
  const item = document.getElementById(`job-${job.id}`);
  if (!item || item.dataset.ended) return;
  item.dataset.state = job.state;
  const standing = item.querySelector(".standing");
  const bar = item.querySelector("progress");
  if (job.steps) bar.value = job.step / job.steps;
  if (standing) standing.textContent = job.steps && job.state === "running" ? `step ${job.step} of ${job.steps}` : job.state;
  const preview = item.querySelector(".preview");
  if (preview && job.preview) {
    preview.src = job.preview;
    preview.hidden = false;
  }
  item.querySelector(".message").textContent = job.message;
  if (!job.final) return;
  item.dataset.ended = "yes";
  bar.hidden = true;
  if (!job.picture) return;
  const picture = new Image();
  picture.alt = job.alt;
  picture.src = job.picture;
  item.querySelector(".frame").replaceChildren(picture);
  item.querySelector(".acts").hidden = false;
}
