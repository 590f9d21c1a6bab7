// One model beside the others: its tags over time, now and on average, and its excitations.

import { drawCurve, drawKey, drawMap, shade } from "./draw.js";

const TOP = 12; // tags shown before "all"

export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const descending = (values) => Array.from(values.keys()).sort((a, b) => values[b] - values[a]);

export class Panel {
  /** `model` is what the server says of one, `duration` the song's in seconds; `seek` is called with seconds. */
  constructor(model, duration, seek) {
    Object.assign(this, { model, duration, seek, tags: [], count: 0, done: 0, blocks: {}, position: 0, segment: -1, length: 1 });
    this.node = document.getElementById("panel").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.node.querySelector(selector);
    this.find("h2").textContent = model.name;
    this.find(".about").textContent = model.about;
    this.node.setAttribute("aria-label", model.name);
    this.find("progress").setAttribute("aria-label", `Progress of ${model.name}`);
    this.find(".rows").setAttribute("aria-label", `Tags now, by ${model.name}`);
    this.find(".excitations").hidden = !model.excitations;
    this.find("select").setAttribute("aria-label", `Block of ${model.name}`);
    this.find(".all").addEventListener("click", () => this.showAll(!this.all));
    this.find("select").addEventListener("change", () => this.draw());
    for (const plot of this.node.querySelectorAll(".plot")) {
      plot.addEventListener("click", (event) => {
        const box = plot.getBoundingClientRect();
        seek(((event.clientX - box.left) / box.width) * this.duration);
      });
    }
    new ResizeObserver(() => this.draw()).observe(this.node);
    this.showAll(false);
  }

  /** Take a line of the server's answer. */
  take(line) {
    if (line.error) return this.fail(line.error);
    if (line.tags) {
      Object.assign(this, { tags: line.tags, count: line.segments, length: line.segment_seconds });
      this.rows = new Float32Array(line.segments * line.tags.length);
      this.means = new Float64Array(line.tags.length);
    } else if (line.probabilities) this.add(line);
    else this.finish(line.mean);
    this.pending ??= requestAnimationFrame(() => this.draw());
  }

  add({ probabilities, excitations }) {
    const first = this.done, width = this.tags.length;
    probabilities.forEach((row, i) => this.rows.set(row, (first + i) * width));
    this.done += probabilities.length;
    this.means = this.means.map((mean, tag) => {
      const sum = probabilities.reduce((total, row) => total + row[tag], 0);
      return (mean * first + sum) / this.done;
    });
    for (const [block, text] of Object.entries(excitations)) {
      const values = bytes(text), channels = values.length / probabilities.length;
      this.blocks[block] ??= { channels, values: new Uint8Array(channels * this.count), sums: new Float64Array(channels) };
      this.blocks[block].values.set(values, first * channels);
      values.forEach((value, i) => (this.blocks[block].sums[i % channels] += value));
    }
    this.order = descending(this.means);
    this.find("progress").value = this.done / this.count;
    this.find(".state").textContent = `${this.done} of ${plural(this.count, "segment")}`;
    this.fillBlocks();
  }

  finish(mean) {
    this.means = mean;
    this.order = descending(mean);
    this.find("progress").hidden = true;
    this.find(".state").textContent =
      `${plural(this.count, "segment")} of ${this.length.toFixed(1)} s, ${plural(this.tags.length, "tag")}`;
    this.node.removeAttribute("aria-busy");
    this.find(".means").hidden = false;
    this.find("tbody").replaceChildren(...this.order.map((tag) => this.tableRow(tag)));
  }

  get failed() {
    return this.node.classList.contains("failed");
  }

  get finished() {
    return !this.failed && !this.node.hasAttribute("aria-busy");
  }

  fail(message) {
    this.node.classList.add("failed");
    this.node.removeAttribute("aria-busy");
    this.find("progress").hidden = true;
    this.find(".state").textContent = message;
  }

  /** The most probable tags of the song, for whoever does not see them. */
  get best() {
    return this.order.slice(0, 3).map((tag) => `${this.tags[tag]} ${percent(this.means[tag])}`).join(", ");
  }

  tableRow(tag) {
    const row = document.createElement("tr"), width = this.tags.length;
    let top = 0;
    for (let i = 1; i < this.count; i++) {
      if (this.rows[i * width + tag] > this.rows[top * width + tag]) top = i;
    }
    const head = document.createElement("th"), button = document.createElement("button");
    head.scope = "row";
    head.textContent = this.tags[tag];
    button.type = "button";
    button.textContent = clock(top * this.length);
    button.setAttribute("aria-label", `Go to ${button.textContent}, where ${this.tags[tag]} is highest`);
    button.addEventListener("click", () => this.seek(top * this.length));
    row.append(head);
    for (const content of [percent(this.means[tag]), percent(this.rows[top * width + tag]), button]) {
      row.insertCell().append(content);
    }
    return row;
  }

  showAll(all) {
    const total = this.model.tags, shown = all ? total : Math.min(TOP, total), button = this.find(".all");
    this.all = all;
    button.hidden = total <= TOP;
    button.textContent = all ? `Show the top ${TOP} tags` : `Show all ${total} tags`;
    button.setAttribute("aria-expanded", all);
    this.find(".rows").replaceChildren(...Array.from({ length: shown }, () => {
      const row = document.createElement("li");
      row.innerHTML = '<span class="name"></span><span class="now">' +
        '<span class="bar"><i></i><b hidden></b></span><span class="value"></span></span>';
      return row;
    }));
    this.draw();
  }

  fillBlocks() {
    const select = this.find("select"), blocks = Object.keys(this.blocks);
    if (blocks.length === select.options.length) return;
    select.replaceChildren(...blocks.map((block) =>
      new Option(`block ${block} (${this.blocks[block].channels} channels)`, block)));
  }

  /** Move to a time in seconds. */
  at(seconds) {
    this.position = seconds;
    const share = this.duration ? Math.min(1, seconds / this.duration) : 0;
    for (const head of this.node.querySelectorAll(".playhead")) head.style.transform = `translateX(${100 * share}%)`;
    const segment = Math.min(Math.floor(seconds / this.length), this.count - 1);
    if (segment !== this.segment) this.drawNow(segment);
  }

  /** Draw everything anew: other values, another size, other colours. */
  draw() {
    this.pending = null;
    if (!this.node.isConnected) return;
    const width = this.tags.length, shown = this.find(".rows").children.length;
    const filled = Math.min(1, (this.done * this.length) / this.duration) || 0;
    drawKey(this.find(".key"));
    drawMap(this.find(".map"), shown, this.done, filled,
      (row, column) => shade(this.rows[column * width + this.order[row]]), 2);
    const names = this.done ? this.order.slice(0, shown).map((tag) => this.tags[tag]) : [];
    this.find(".map").setAttribute("aria-label",
      `Heat map by ${this.model.name}: how probable ${names.length} tags are over time. ` +
      "The list before it has the values of the moment, the table below it those of the song.");
    [...this.find(".rows").children].forEach((row, i) => {
      const mark = row.querySelector("b");
      row.firstChild.textContent = row.firstChild.title = names[i] ?? "";
      mark.hidden = !names.length;
      if (names.length) mark.style.left = `calc(${100 * this.means[this.order[i]]}% - 1px)`;
    });
    this.drawExcitations(filled);
    this.segment = -1;
    this.at(this.position);
  }

  drawExcitations(filled) {
    const block = this.find("select").value, found = this.blocks[block];
    if (!this.model.excitations) return;
    if (found) found.order = descending(found.sums);
    drawMap(this.find(".strip-map"), found?.channels, found && this.done, filled,
      (row, column) => found.values[column * found.channels + found.order[row]]);
    this.find(".strip-map").setAttribute("aria-label",
      `Excitations of block ${block} by ${this.model.name} over time, a row for each channel`);
  }

  drawNow(segment) {
    const known = segment >= 0 && segment < this.done, width = this.tags.length;
    this.segment = segment;
    this.find(".clock").textContent = `Now, ${clock(this.position)}`;
    [...this.find(".rows").children].forEach((row, i) => {
      const value = known ? this.rows[segment * width + this.order[i]] : 0;
      row.querySelector("i").style.transform = `scaleX(${value})`;
      row.querySelector(".value").textContent = known ? percent(value) : "";
    });
    if (this.model.excitations) this.drawMoment(segment, known);
  }

  drawMoment(segment, known) {
    const block = this.find("select").value, found = this.blocks[block], canvas = this.find(".curve");
    if (!found) return drawCurve(canvas, null, []);
    const values = found.values.subarray(segment * found.channels, (segment + 1) * found.channels);
    const now = known ? found.order.map((channel) => values[channel]) : null;
    drawCurve(canvas, now, found.order.map((channel) => found.sums[channel] / this.done));
    const shares = now?.map((value) => value / 255), mean = shares?.reduce((a, b) => a + b, 0) / shares?.length;
    const text = shares ? `Block ${block} at ${clock(segment * this.length)}: on average ${mean.toFixed(2)}, ` +
      `from ${Math.min(...shares).toFixed(2)} to ${Math.max(...shares).toFixed(2)} over ${shares.length} channels. ` +
      "Bars: this moment; line: average of the song." : "";
    this.find(".summary").textContent = text;
    canvas.setAttribute("aria-label", text || "Excitations of the moment");
  }
}
