// Crops by dragging; the number fields say the same, and are what is sent.
import { easel, onPicture, picture, place } from "/static/easel.js";

const box = document.getElementById("crop-box");
const fields = ["left", "top", "width", "height"].map((name) => document.getElementById(`crop_${name}`));
let from = null;
let known = "";

onPicture(() => {
  if (known && known !== picture.src) fields.forEach((field) => (field.value = ""));
  known = picture.src;
  draw();
});
fields.forEach((field) => field.addEventListener("input", draw));

easel.addEventListener("pointerdown", (event) => {
  from = place(event);
  easel.setPointerCapture(event.pointerId);
  event.preventDefault();
});
easel.addEventListener("pointermove", (event) => {
  if (!from) return;
  const to = place(event);
  const sides = [Math.abs(to.x - from.x), Math.abs(to.y - from.y)];
  const isClick = Math.max(...sides) < 8;
  const values = [Math.min(from.x, to.x), Math.min(from.y, to.y), ...sides].map(Math.round);
  fields.forEach((field, i) => (field.value = isClick ? "" : values[i]));
  fields[0].closest("details").open = true;
  draw();
});
easel.addEventListener("pointerup", () => (from = null));

function draw() {
  const [left, top, width, height] = fields.map((field) => Number(field.value) || 0);
  const [wide, high] = [picture.naturalWidth, picture.naturalHeight];
  box.hidden = !(left || top || width || height) || !wide;
  const share = (value, whole) => `${(value / whole) * 100}%`;
  box.style.left = share(left, wide);
  box.style.top = share(top, high);
  box.style.width = share(width || wide - left, wide);
  box.style.height = share(height || high - top, high);
}
