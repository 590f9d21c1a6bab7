// What is drawn: colours from the style sheet, so that dark and light follow the system.

let ramp = null;

/** Forget the colours: the system went dark or light. */
export function repaint() {
  ramp = null;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** 256 colours from nothing to all, as pixels: lightness alone tells them apart, whatever colours one sees. */
function colours() {
  if (ramp) return ramp;
  const stops = colour("--ramp").split(" ").map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  ramp = Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    const [r, g, b] = stops[low].map((value, c) => Math.round(value + (at - low) * (stops[low + 1][c] - value)));
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  return ramp;
}

/** Give a canvas as many pixels as it has on the screen; return its context, in CSS pixels, cleared. */
function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

/** The smallest and largest sample of each column, the loudest filling the height. */
export function drawWave(canvas, peaks) {
  const { context, width, height } = prepare(canvas);
  const loudest = Math.max(1e-3, ...peaks.map(([low, high]) => Math.max(-low, high)));
  const scale = (0.46 * height) / loudest, step = width / peaks.length;
  context.fillStyle = colour("--ink");
  peaks.forEach(([low, high], i) => {
    context.fillRect(i * step, height / 2 - high * scale, Math.max(step, 1), Math.max(1, (high - low) * scale));
  });
}

/**
 * Rows over time: `value(row, column)` from 0 to 255 for `rows` and `columns`, which fill the share
 * `filled` of the width; `gap` pixels between rows.
 */
export function drawMap(canvas, rows, columns, filled, value, gap = 0) {
  const { context, width, height } = prepare(canvas);
  if (!rows || !columns) return;
  const picture = new ImageData(columns, rows), pixels = new Uint32Array(picture.data.buffer), table = colours();
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) pixels[at++] = table[value(row, column)];
  }
  const small = new OffscreenCanvas(columns, rows), line = height / rows;
  small.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = false;
  if (!gap) context.drawImage(small, 0, 0, filled * width, height);
  else for (let row = 0; row < rows; row++) {
    context.drawImage(small, 0, row, columns, 1, 0, row * line + gap / 2, filled * width, line - gap);
  }
}

/** How a probability is coloured: small ones, which most are, further apart. */
export const shade = (probability) => Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, probability))));

/** The scale of the colours, from 0 to 1. */
export function drawKey(canvas) {
  drawMap(canvas, 1, 64, 1, (_, column) => shade(column / 63));
}

/** Excitations (0 to 255) of the channels at one moment as bars, and their means over the song as a line. */
export function drawCurve(canvas, now, means) {
  const { context, width, height } = prepare(canvas), left = 26, foot = 16;
  const y = (value) => 8 + (1 - value / 255) * (height - foot - 12), step = (width - left) / means.length;
  context.font = `11px ${colour("--font")}`;
  context.textBaseline = "middle";
  for (const tick of [0, 0.5, 1]) {
    context.fillStyle = colour("--rule");
    context.fillRect(left, Math.round(y(255 * tick)), width - left, 1);
    context.fillStyle = colour("--muted");
    context.fillText(tick, 0, y(255 * tick));
  }
  context.fillText("channels, the highest average first", left, height - foot / 2 + 2);
  context.fillStyle = colour("--ink");
  now?.forEach((value, i) => {
    context.fillRect(left + i * step, y(value), Math.max(1, step - (step > 3 ? 1 : 0)), y(0) - y(value));
  });
  context.strokeStyle = colour("--mark");
  context.lineWidth = 1.5;
  context.beginPath();
  means.forEach((value, i) => {
    context.lineTo(left + i * step, y(value));
    context.lineTo(left + (i + 1) * step, y(value));
  });
  context.stroke();
}
