// The page: a song goes to the server, plays here, and everything that shows it moves with it.

import { drawWave, repaint } from "./draw.js";
import { Panel } from "./panel.js";

const AT_ONCE = 3; // models that are asked at the same time: a browser opens six connections to a server
const STEPS = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 }; // seconds

const find = (id) => document.getElementById(id);
const [audio, wave] = [find("audio"), find("wave")];
const panels = new Map(); // by the model's name, those that were chosen once
const waiting = []; // models to ask
let server, song, choosing, position = 0, asked = 0;

// Messages

function say(text) {
  find("status").textContent = text;
}

function complain(text) {
  find("error").textContent = text;
  if (text) say("");
}

/** What went wrong, as a sentence. */
async function reason(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answers with error ${response.status}.`;
  }
}

const unreachable = "The server does not answer. Is samplecnn serve still running?";

// The song

async function choose(file) {
  choosing?.abort();
  const { signal } = (choosing = new AbortController());
  complain("");
  if (!server) return complain(unreachable);
  if (file.size > server.max_bytes) {
    return complain(`${file.name} is too large: up to ${server.max_bytes / 1e6} MB are taken.`);
  }
  say(`Reading ${file.name} …`);
  try {
    const response = await fetch("api/sounds", { method: "POST", body: file, signal });
    if (response.ok) begin(file, await response.json());
    else complain(`${file.name}: ${await reason(response)}`);
  } catch (error) {
    if (error.name !== "AbortError") complain(`${file.name}: ${unreachable}`);
  }
}

function begin(file, sound) {
  for (const panel of panels.values()) panel.stop?.();
  if (song) URL.revokeObjectURL(song.url);
  song = { ...sound, name: file.name, url: URL.createObjectURL(file), converted: false };
  audio.src = song.url;
  find("song").textContent = file.name;
  document.title = `${file.name} · Music tags over time`;
  find("player").hidden = false;
  wave.setAttribute("aria-valuemax", Math.floor(song.seconds));
  say(song.cut ? `It is heard up to ${spoken(song.seconds)}.` : "");
  drawWave(wave.firstElementChild, song.peaks);
  panels.clear();
  show();
  move(0);
}

audio.addEventListener("error", () => {
  if (!song || !audio.getAttribute("src")) return;
  if (song.converted) return complain(`${song.name} cannot be played in this browser; its tags can be seen.`);
  song.converted = true; // a format that the browser does not know: the server's WAV
  audio.src = `api/sounds/${song.id}/audio`;
});

// Where in the song

function move(seconds) {
  position = Math.min(Math.max(0, seconds), song.seconds);
  const share = position / song.seconds;
  wave.lastElementChild.style.transform = `translateX(${100 * share}%)`;
  for (const panel of shownPanels()) panel.at(position);
  const whole = String(Math.floor(position));
  if (wave.getAttribute("aria-valuenow") === whole && wave.hasAttribute("aria-valuetext")) return;
  wave.setAttribute("aria-valuenow", whole);
  wave.setAttribute("aria-valuetext", `${spoken(position)} of ${spoken(song.seconds)}`);
}

function seek(seconds) {
  move(seconds);
  audio.currentTime = position;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function spoken(seconds) {
  const minutes = Math.floor(seconds / 60), rest = Math.floor(seconds % 60);
  return (minutes ? `${plural(minutes, "minute")} ` : "") + plural(rest, "second");
}

function follow() {
  if (audio.paused) return;
  move(audio.currentTime);
  requestAnimationFrame(follow);
}

audio.addEventListener("play", follow);
audio.addEventListener("seeking", () => song && move(audio.currentTime));

wave.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in STEPS) seek(position + STEPS[event.key]);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(song.seconds);
  else if (event.key === " ") audio.paused ? audio.play() : audio.pause();
  else return;
  event.preventDefault();
});

function drag(event) {
  const box = wave.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * song.seconds);
}

wave.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  wave.setPointerCapture(event.pointerId);
  drag(event);
});
wave.addEventListener("pointermove", (event) => wave.hasPointerCapture(event.pointerId) && drag(event));

// The models

const chosen = () => server.models.filter((_, i) => find(`model${i}`).checked);
const shownPanels = () => chosen().map((model) => panels.get(model.name)).filter(Boolean);

/** Show the panels of the chosen models; ask those that have not been asked about this song. */
function show() {
  if (!song) return;
  for (const [name, panel] of panels) {
    if ((panel.stop || panel.failed) && !chosen().some((model) => model.name === name)) {
      panel.stop?.();
      panels.delete(name);
    }
  }
  for (const model of chosen()) {
    if (panels.has(model.name)) continue;
    const panel = new Panel(model, seek);
    panel.begin(song.seconds);
    panels.set(model.name, panel);
    ask(panel);
  }
  const none = document.createElement("p");
  none.textContent = "No model is chosen.";
  find("panels").replaceChildren(...(chosen().length ? shownPanels().map((panel) => panel.node) : [none]));
  for (const panel of shownPanels()) panel.draw();
  move(position);
}

function ask(panel) {
  const controller = new AbortController(), url = `api/sounds/${song.id}/tags?model=${encodeURIComponent(panel.model.name)}`;
  panel.stop = () => controller.abort();
  waiting.push(async () => {
    try {
      const response = await fetch(url, { signal: controller.signal });
      if (!response.ok) return panel.fail(await reason(response));
      for await (const line of lines(response)) panel.take(line);
      if (panel.node.getAttribute("aria-busy")) panel.fail(unreachable);
      else if (!panel.failed) say(`${panel.model.name}: ${panel.best}.`);
    } catch (error) {
      if (error.name !== "AbortError") panel.fail(unreachable);
    } finally {
      panel.stop = null;
    }
  });
  next();
}

function next() {
  if (asked >= AT_ONCE || !waiting.length) return;
  asked += 1;
  waiting.shift()().finally(() => {
    asked -= 1;
    next();
  });
}

/** The lines of a response as they come, as objects. */
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part; !(part = await reader.read()).done; ) {
    const whole = (rest + part.value).split("\n");
    rest = whole.pop();
    yield* whole.map(JSON.parse);
  }
}

function offer(model, i) {
  const label = document.createElement("label"), box = document.createElement("input");
  const text = document.createElement("span"), about = document.createElement("small");
  Object.assign(box, { type: "checkbox", id: `model${i}`, checked: i < 2 });
  about.textContent = model.about;
  text.append(model.name, about);
  label.append(box, text);
  box.addEventListener("change", show);
  find("models").append(label);
}

// The start

find("file").addEventListener("change", ({ target }) => {
  if (target.files.length) choose(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
new ResizeObserver(() => song && drawWave(wave.firstElementChild, song.peaks)).observe(wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  repaint();
  if (song) drawWave(wave.firstElementChild, song.peaks);
  for (const panel of panels.values()) panel.draw();
});

try {
  server = await (await fetch("api/models")).json();
  server.models.forEach(offer);
  find("limits").textContent =
    `MP3, FLAC, Ogg, WAV, AIFF; up to ${server.max_bytes / 1e6} MB and ${plural(server.max_minutes, "minute")}`;
} catch {
  complain(unreachable);
}
