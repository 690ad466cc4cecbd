// The picture to begin from: shown as soon as it is chosen, with its size.

export const easel = document.getElementById("easel");
export const picture = document.getElementById("init-picture");
const file = document.getElementById("init_file");
const size = document.getElementById("init-size");

/** Call back whenever another picture is shown. */
export function onPicture(tell) {
  const shown = () => {
    size.textContent = `${picture.naturalWidth} × ${picture.naturalHeight} pixels`;
    easel.hidden = false;
    tell();
  };
  picture.addEventListener("load", shown);
  picture.addEventListener("error", () => {
    size.textContent = "This file cannot be shown here; it is checked when you press Make.";
  });
  if (picture.complete && picture.naturalWidth) shown();
}

file.addEventListener("change", () => {
  if (!file.files.length) return;
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  easel.hidden = false;
  picture.src = URL.createObjectURL(file.files[0]);
});

/** Where a pointer is, in pixels of the picture. */
export function place(event) {
  const frame = picture.getBoundingClientRect();
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  return {
    x: clamp(((event.clientX - frame.left) / frame.width) * picture.naturalWidth, picture.naturalWidth),
    y: clamp(((event.clientY - frame.top) / frame.height) * picture.naturalHeight, picture.naturalHeight),
  };
}
