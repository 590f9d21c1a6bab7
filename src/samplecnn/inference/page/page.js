// The page: songs are sent and tagged one after the other, one plays, and everything that shows it moves with it.

import { drawWave, repaint } from "./draw.js";
import { Panel, plural } from "./panel.js";
import { add, open, playable, tags } from "./server.js";
import { Song, table } from "./songs.js";

const AT_ONCE = 2; // models that are asked about a song at the same time: a browser opens six connections
const STEPS = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 }; // seconds

const find = (id) => document.getElementById(id);
const [audio, wave] = [find("audio"), find("wave")];
const songs = [];
let server; // what it takes, and its models
let wanted, song; // the song that was chosen last, and the one on display
let working = false; // on one song after the other
let position = 0; // in seconds

// Messages

function say(text) {
  find("status").textContent = text;
}

function complain(text) {
  find("error").textContent = text;
  if (text) say("");
}

// The list

function take(files) {
  if (!server) return;
  const taken = [...files].map((file) => songs.find((known) => known.is(file)) ?? new Song(file, want));
  for (const one of taken.filter((made) => !songs.includes(made))) {
    songs.push(one);
    find("list").append(one.node);
  }
  find("songs").hidden = false;
  want(taken[0]);
}

/** Show a song as soon as it has been sent, and send it before all others. */
function want(one) {
  wanted = one;
  complain("");
  one.retry();
  if (one.sound) show(one);
  work();
}

/** Do what is left to do: at once for the song that is wanted, for the others one after the other. */
async function work() {
  const left = (one) => !one.busy && !one.problem && (!one.sound || one.lacks(chosen()).length > 0);
  if (wanted && left(wanted)) listen(wanted);
  if (working) return;
  working = true;
  for (let one; (one = songs.find(left)); ) await listen(one);
  working = false;
}

/** Send a song if that has not happened, and ask the chosen models about it that have not been asked. */
async function listen(one) {
  one.busy = true;
  try {
    if (!one.sound) await send(one);
    const models = one.lacks(chosen());
    for (const model of models) {
      one.panels.set(model.name, new Panel(model, one.sound.seconds, seek));
    }
    one.say("being tagged");
    if (one === wanted || one === song) show(one);
    const ask = async () => {
      for (let model; (model = models.shift()); ) await hear(one, model);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, ask));
    one.conclude();
  } catch (error) {
    one.fail(error.message);
    complain(`${one.name}: ${error.message}`);
  }
  one.busy = false;
  find("download").disabled = !table(songs, server.models);
  work(); // other models may have been chosen meanwhile
}

async function send(one) {
  if (one.file.size > server.max_bytes) {
    throw new Error(`This file is too large: up to ${server.max_bytes / 1e6} MB are taken.`);
  }
  one.say("being read");
  if (one === wanted) say(`Reading ${one.name} …`);
  one.sound = await add(one.file);
}

/** Ask about a song, and send it again if need be: the server keeps the last few. */
const kept = (one, ask) => ask().catch(async (error) => {
  if (error.status !== 404) throw error;
  await send(one);
  return ask();
});

/** Fill a panel with what its model hears in a song. */
async function hear(one, model) {
  const panel = one.panels.get(model.name), controller = new AbortController();
  if (!panel) return; // not chosen any more
  panel.stop = () => controller.abort();
  try {
    await kept(one, async () => {
      for await (const line of tags(one.sound, model, controller.signal)) panel.take(line);
    });
    if (one === song && !panel.failed) say(`${model.name}: ${panel.best}.`);
  } catch (error) {
    if (error.name !== "AbortError") panel.fail(error.message);
  } finally {
    panel.stop = null;
  }
}

find("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table(songs, server.models)], { type: "text/csv" }));
  link.download = "tags.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

// The song on display

function show(one) {
  if (one !== song) {
    if (song) URL.revokeObjectURL(song.url);
    song?.button.removeAttribute("aria-current");
    song = one;
    song.button.setAttribute("aria-current", "true");
    Object.assign(song, { url: URL.createObjectURL(song.file), converted: false });
    audio.src = song.url;
    find("song").textContent = song.name;
    document.title = `${song.name} · Music tags over time`;
    find("player").hidden = false;
    wave.setAttribute("aria-valuemax", Math.floor(song.sound.seconds));
    say(song.sound.cut ? `It is heard up to ${spoken(song.sound.seconds)}.` : "");
    drawWave(wave.firstElementChild, song.sound.peaks);
    position = 0;
  }
  showPanels();
}

audio.addEventListener("error", async () => {
  const one = song;
  if (!one || !audio.getAttribute("src")) return;
  const first = !one.converted; // it may be a format that the browser does not know
  one.converted = true;
  const other = first ? await kept(one, () => playable(one.sound)).catch(() => null) : null;
  if (one !== song) return; // another was chosen meanwhile
  if (other) audio.src = other;
  else complain(`${one.name} cannot be played in this browser; its tags can be seen.`);
});

// Where in the song

function move(seconds) {
  const all = song.sound.seconds;
  position = Math.min(Math.max(0, seconds), all);
  wave.lastElementChild.style.transform = `translateX(${(100 * position) / all}%)`;
  for (const panel of shownPanels()) panel.at(position);
  const text = `${spoken(position)} of ${spoken(all)}`;
  if (wave.getAttribute("aria-valuetext") === text) return; // it is read aloud: once a second
  wave.setAttribute("aria-valuenow", Math.floor(position));
  wave.setAttribute("aria-valuetext", text);
}

function seek(seconds) {
  move(seconds);
  audio.currentTime = position;
}

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
  else if (event.key === "End") seek(song.sound.seconds);
  else if (event.key === " ") audio.paused ? audio.play() : audio.pause();
  else return;
  event.preventDefault();
});

function drag(event) {
  const box = wave.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * song.sound.seconds);
}

wave.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  wave.setPointerCapture(event.pointerId);
  drag(event);
});
wave.addEventListener("pointermove", (event) => wave.hasPointerCapture(event.pointerId) && drag(event));

// The models

const chosen = () => server.models.filter((_, i) => find(`model${i}`).checked);
const shownPanels = () => chosen().map(({ name }) => song.panels.get(name)).filter(Boolean);

/** Show what the chosen models hear in the song on display. */
function showPanels() {
  const none = document.createElement("p");
  none.textContent = "No model is chosen.";
  find("panels").replaceChildren(...(chosen().length ? shownPanels().map((panel) => panel.node) : [none]));
  for (const panel of shownPanels()) panel.draw();
  move(position);
}

/** Stop the models that are not chosen any more, and ask those that are now. */
function change() {
  for (const one of songs) {
    for (const [name, panel] of one.panels) {
      if (panel.finished || chosen().some((model) => model.name === name)) continue;
      panel.stop?.();
      one.panels.delete(name);
    }
  }
  if (song) showPanels();
  work();
}

function offer(model, i) {
  const label = document.createElement("label"), box = document.createElement("input");
  const text = document.createElement("span"), about = document.createElement("small");
  Object.assign(box, { type: "checkbox", id: `model${i}`, checked: i < 2 });
  about.textContent = model.about;
  text.append(model.name, about);
  label.append(box, text);
  box.addEventListener("change", change);
  find("models").append(label);
}

// The start

find("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files);
  target.value = ""; // so that the same file can be chosen again
});
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}
new ResizeObserver(() => song && drawWave(wave.firstElementChild, song.sound.peaks)).observe(wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  repaint();
  if (!song) return;
  drawWave(wave.firstElementChild, song.sound.peaks);
  for (const panel of song.panels.values()) panel.draw();
});

try {
  server = await open();
  server.models.forEach(offer);
  find("limits").textContent =
    `MP3, FLAC, Ogg, WAV, AIFF; up to ${server.max_bytes / 1e6} MB and ${plural(server.max_minutes, "minute")} each`;
} catch (error) {
  complain(error.message);
}
