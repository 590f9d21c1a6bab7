// The songs in the list, what is known of each, and the table of all.

import { clock } from "./panel.js";

export class Song {
  /** `choose` is called when it is clicked in the list. */
  constructor(file, choose) {
    Object.assign(this, { file, name: file.name, sound: null, panels: new Map(), busy: false, problem: "" });
    this.node = document.createElement("li");
    this.node.innerHTML = '<button type="button"><span></span><span class="note"></span></button>';
    this.button = this.node.firstChild;
    this.button.firstChild.textContent = file.name;
    this.note = this.button.lastChild;
    this.button.addEventListener("click", () => choose(this));
    this.say("waiting");
  }

  is({ name, size, lastModified }) {
    return name === this.name && size === this.file.size && lastModified === this.file.lastModified;
  }

  say(text) {
    this.note.textContent = text;
    this.node.classList.toggle("failed", Boolean(this.problem));
  }

  fail(message) {
    this.problem = message;
    this.say(message);
  }

  /** Forget what went wrong, to try again. */
  retry() {
    this.problem = "";
    for (const [name, panel] of this.panels) if (panel.failed) this.panels.delete(name);
  }

  /** Those of the models that have not been asked. */
  lacks(models) {
    return models.filter(({ name }) => !this.panels.has(name));
  }

  /** Say what is known, by the first model that has finished. */
  conclude() {
    const panel = [...this.panels.values()].find((one) => one.finished);
    this.say(panel ? `${clock(this.sound.seconds)}, ${panel.best}` : clock(this.sound.seconds));
  }
}

// A spreadsheet takes these for the beginning of a formula; a path with ./ in front is the same path.
const formula = /^[=+\-@\t\r]/;
const harmless = (text) => (formula.test(text) ? `'${text}` : text);
const path = (name) => (formula.test(name) ? `./${name}` : name);
const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/** The averages of all songs, a row per song and model, in the columns of `samplecnn tag --csv`; "" if none. */
export function table(songs, models) {
  const rows = songs.flatMap((song) =>
    models.map(({ name }) => song.panels.get(name)).filter((panel) => panel?.finished).map((panel) => [song, panel]));
  const tags = [...new Set(rows.flatMap(([, panel]) => panel.tags))];
  const lines = rows.map(([song, panel]) => {
    const means = new Map(panel.tags.map((tag, i) => [tag, panel.means[i].toFixed(6)]));
    return [path(song.name), ...tags.map((tag) => means.get(tag) ?? ""), harmless(panel.model.name)];
  });
  const all = [["file", ...tags.map(harmless), "model"], ...lines];
  return rows.length ? all.map((line) => `${line.map(cell).join(",")}\n`).join("") : "";
}
