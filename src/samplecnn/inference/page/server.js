// What computes, as the page asks for it: here `samplecnn serve`. In a page that `samplecnn export --page`
// writes, local.js is in its place, with the same functions.

const unreachable = "The server does not answer. Is samplecnn serve still running?";

/** An answer, or an Error with a sentence in it, and the server's status if there was one. */
async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(unreachable);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const message = error ?? `The server answers with error ${response.status}.`;
  throw Object.assign(new Error(message), { status: response.status });
}

/** The models, as {name, about, tags (how many), excitations}, and what is taken: max_bytes, max_minutes. */
export const open = async () => (await ask("api/models")).json();

/** Give it a song; it says {id, seconds, cut, peaks}. */
export async function add(file) {
  try {
    return await (await ask("api/sounds", { method: "POST", body: file })).json();
  } catch (error) {
    await file.slice(0, 1).arrayBuffer().catch(() => {
      throw new Error("It cannot be read: it is a folder, or was moved or changed since.");
    });
    throw error;
  }
}

/** Where a song is in a form that every browser plays; null if there is no such. */
export async function playable(sound) {
  const address = `api/sounds/${sound.id}/audio`;
  await ask(address, { method: "HEAD" });
  return address;
}

/** What a model hears in a song, as lines: what is to come, batches of segments, the mean. */
export async function* tags(sound, model, signal) {
  const response = await ask(`api/sounds/${sound.id}/tags?model=${encodeURIComponent(model.name)}`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part; !(part = await reader.read()).done; ) {
      const whole = (rest + part.value).split("\n");
      rest = whole.pop();
      for (const line of whole) yield JSON.parse(line);
    }
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(unreachable);
  }
}
