// What computes, in a page without a server: the bundle's model.onnx, in this browser, by onnxruntime-web, whose
// files are in the folder runtime/. The same functions as in server.js, whose name it has in such a page.

const MAX_BYTES = 200_000_000, MAX_MINUTES = 20; // a song is decoded whole, in memory
const COLUMNS = 1000; // of the waveform's picture

let runtime, model, session;
let turn = Promise.resolve(); // one computation after the other

/** The model of the bundle, as {name, about, tags (how many), excitations}, and what is taken. */
export async function open() {
  if (location.protocol === "file:") {
    throw new Error("A browser runs this page only from a web address: python3 -m http.server in its folder serves it.");
  }
  try {
    runtime = await import("./runtime/ort.wasm.bundle.min.mjs");
  } catch {
    throw new Error("The folder runtime/ has no onnxruntime-web: samplecnn export --page --runtime puts it there.");
  }
  runtime.env.wasm.wasmPaths = { wasm: new URL("runtime/ort-wasm-simd-threaded.wasm", location.href).href };
  model = (await (await fetch("config.json")).json()).model;
  const name = model.block?.name ?? model.model.name;
  const about = [...(model.block ? [`width ${model.width}`] : []), `${model.tags.length} tags of ${model.data ?? "music"}`];
  return {
    models: [{ name, about: about.join(", "), tags: model.tags.length, excitations: false }],
    max_bytes: MAX_BYTES,
    max_minutes: MAX_MINUTES,
  };
}

/** Decode a song, at the rate that the network hears and in mono: {seconds, cut, peaks, samples}. */
export async function add(file) {
  const rate = model.sample_rate;
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`This file cannot be used: this browser cannot decode it to ${rate} Hz.`);
  }
  const samples = new Float32Array(Math.min(audio.length, MAX_MINUTES * 60 * rate));
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const values = audio.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) samples[i] += values[i] / audio.numberOfChannels;
  }
  return { seconds: samples.length / rate, cut: samples.length < audio.length, peaks: peaks(samples), samples };
}

function peaks(samples) {
  const columns = Math.min(COLUMNS, samples.length), edge = (column) => Math.floor((column * samples.length) / columns);
  return Array.from({ length: columns }, (_, column) => {
    let low = Infinity, high = -Infinity;
    for (let i = edge(column); i < edge(column + 1); i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    return [low, high];
  });
}

/** There is no other form of a song than its file. */
export const playable = async () => null;

/** What the network hears in a song, as lines: what is to come, a segment each, the mean. */
export async function* tags({ samples }, _model, signal) {
  const size = model.segment_samples, count = Math.max(1, Math.floor(samples.length / size));
  const mean = new Array(model.tags.length).fill(0);
  yield { tags: model.tags, segments: count, segment_seconds: size / model.sample_rate };
  session ??= runtime.InferenceSession.create("model.onnx");
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted();
    const segment = new Float32Array(size); // silence behind a song that is shorter
    segment.set(samples.subarray(i * size, (i + 1) * size));
    const probabilities = await (turn = turn.catch(() => {}).then(() => compute(segment)));
    probabilities.forEach((value, tag) => (mean[tag] += value / count));
    yield { probabilities: [probabilities], excitations: {} };
  }
  yield { mean };
}

async function compute(segment) {
  const waveforms = new runtime.Tensor("float32", segment, [1, segment.length]);
  const { probabilities } = await (await session).run({ waveforms });
  await new Promise((resume) => setTimeout(resume)); // the page draws in between
  return [...probabilities.data];
}
