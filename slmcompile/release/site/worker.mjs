// Asks the model beside the page, which stays awake meanwhile.

import { open } from "./model.mjs";

let model;
let stopped = false;

const tell = (message) => postMessage(message);

async function load(options) {
  model = await open({ ...options, onProgress: (share) => tell({ type: "progress", share }) });
  const { app, backend, threads } = model;
  tell({ type: "ready", app, backend, threads });
}

/** Time is counted from the first token on, as everywhere else: what came before has read the prompt. */
async function answer({ values, messages, ids }) {
  stopped = false;
  const prompt = ids ?? (messages ? await model.idsOfMessages(messages) : await model.ids(values));
  const tokens = [];
  const begin = performance.now();
  let first = begin;
  for await (const token of model.tokens(prompt)) {
    tokens.push(token);
    if (tokens.length === 1) first = performance.now();
    tell({ type: "text", text: model.decode(tokens), tokens: tokens.length, seconds: (performance.now() - first) / 1000 });
    await new Promise((resolve) => setTimeout(resolve)); // so that a wish to stop is heard
    if (stopped) break;
  }
  const seconds = (performance.now() - first) / 1000;
  tell({ type: "done", text: model.decode(tokens), ids: prompt, tokens: tokens.length, seconds, read: (first - begin) / 1000 });
}

onmessage = async ({ data }) => {
  try {
    if (data.type === "load") await load(data.options);
    else if (data.type === "answer") await answer(data);
    else stopped = true;
  } catch (error) {
    tell({ type: "error", text: String(error?.message ?? error) });
  }
};
