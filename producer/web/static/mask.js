// Paints the mask over the picture: brush, eraser, invert, undo; by pointer or by keyboard.
import { onPicture, picture, place } from "/static/easel.js";

const canvas = document.getElementById("mask-canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const size = document.getElementById("brush-size");
const form = document.getElementById("make");
const maskFile = document.getElementById("mask_file");
const tools = { brush: document.getElementById("brush"), eraser: document.getElementById("eraser") };
const MOST_UNDONE = 20;
let undone = [];
let last = null;
let erases = false;
let at = null;

onPicture(() => {
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  size.max = Math.max(40, Math.round(Math.max(canvas.width, canvas.height) / 2));
  size.value = Math.max(4, Math.round(Math.max(canvas.width, canvas.height) / 10));
  undone = [];
  at = { x: canvas.width / 2, y: canvas.height / 2 };
  for (const id of ["mask-canvas", "brushes", "brush-help"]) document.getElementById(id).hidden = false;
});

for (const [name, button] of Object.entries(tools)) {
  button.addEventListener("click", () => {
    erases = name === "eraser";
    for (const [other, pressed] of Object.entries(tools)) pressed.setAttribute("aria-pressed", String(other === name));
  });
}
document.getElementById("undo").addEventListener("click", () => {
  const before = undone.pop();
  if (before) pen.putImageData(before, 0, 0);
});
document.getElementById("clear").addEventListener("click", () => {
  remember();
  pen.clearRect(0, 0, canvas.width, canvas.height);
});
document.getElementById("invert").addEventListener("click", () => {
  remember();
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = 255;
    pixels.data[i + 3] = 255 - pixels.data[i + 3];
  }
  pen.putImageData(pixels, 0, 0);
});

canvas.addEventListener("pointerdown", (event) => {
  remember();
  last = at = place(event);
  stroke(last, last);
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  at = place(event);
  stroke(last, at);
  last = at;
});
canvas.addEventListener("pointerup", () => (last = null));
canvas.addEventListener("pointercancel", () => (last = null));
canvas.addEventListener("keydown", (event) => {
  const step = Number(size.value) / (event.shiftKey ? 1 : 4);
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === " ") {
    remember();
    stroke(at, at);
  } else if (moves[event.key]) {
    at = { x: Math.max(0, Math.min(canvas.width, at.x + moves[event.key][0])), y: Math.max(0, Math.min(canvas.height, at.y + moves[event.key][1])) };
    document.getElementById("init-size").textContent = `Brush at ${Math.round(at.x)}, ${Math.round(at.y)}`;
  } else return;
  event.preventDefault();
});

function stroke(from, to) {
  pen.globalCompositeOperation = erases ? "destination-out" : "source-over";
  pen.strokeStyle = "#fff";
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = Number(size.value);
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x + 0.01, to.y);
  pen.stroke();
  pen.globalCompositeOperation = "source-over";
}

function remember() {
  undone.push(pen.getImageData(0, 0, canvas.width, canvas.height));
  if (undone.length > MOST_UNDONE) undone.shift();
}

form.addEventListener("submit", async (event) => {
  if (!undone.length || canvas.hidden || form.dataset.painted) return;
  event.preventDefault();
  const mask = document.createElement("canvas");
  [mask.width, mask.height] = [canvas.width, canvas.height];
  const drawn = mask.getContext("2d");
  drawn.fillRect(0, 0, mask.width, mask.height);
  drawn.drawImage(canvas, 0, 0);
  const content = await new Promise((go) => mask.toBlob(go, "image/png"));
  const files = new DataTransfer();
  files.items.add(new File([content], "mask.png", { type: "image/png" }));
  maskFile.files = files.files;
  form.dataset.painted = "yes";
  form.requestSubmit();
});
