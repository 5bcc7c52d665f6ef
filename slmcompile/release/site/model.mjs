// The model of this folder: texts to token ids as in training, greedy answers by onnxruntime-web.
// Knows no page. `const model = await open()`, then `for await (const text of model.answer(values))`.

import { Tokenizer } from "./runtime/tokenizers.min.mjs";

const at = (name) => new URL(name, import.meta.url).href;

const get = async (name) => {
  const answer = await fetch(at(name));
  if (!answer.ok) throw new Error(`${name}: the server answers ${answer.status}`);
  return answer;
};
const json = async (name) => (await get(name)).json();

/** Bytes of a file whose size is known: a server that presses it says another. */
async function bytes({ path, size }, onBytes) {
  const whole = new Uint8Array(size);
  let seen = 0;
  for (const reader = (await get(path)).body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (seen + value.length > size) throw new Error(`${path}: has more than ${size} bytes`);
    whole.set(value, seen);
    seen += value.length;
    onBytes(value.length);
  }
  if (seen !== size) throw new Error(`${path}: ends at byte ${seen} of ${size}`);
  return whole;
}

const RUNTIMES = { wasm: "./runtime/ort.wasm.bundle.min.mjs", webgpu: "./runtime/ort.webgpu.bundle.min.mjs" };

/** Which of them this browser has; WebGPU where the folder has its runtime and there is a device. */
async function backends(app, wanted) {
  if (wanted !== "auto") return [wanted];
  const device = app.webgpu && (await navigator.gpu?.requestAdapter().catch(() => null));
  return device ? ["webgpu", "wasm"] : ["wasm"];
}

/**
 * Opens the model.
 * @param backend "wasm", "webgpu" or "auto".
 * @param threads of WebAssembly; onnxruntime's choice by default, and one where the page is not isolated.
 * @param onProgress called with the share of bytes that are here.
 */
export async function open({ backend = "auto", threads = 0, onProgress = () => {} } = {}) {
  const app = await json("app.json");
  const all = app.files.reduce((sum, { size }) => sum + size, 0);
  let here = 0;
  const count = (number) => onProgress((here += number) / all);
  const [tokens, config] = await Promise.all([json("tokenizer.json"), json("tokenizer_config.json")]);
  const tokenizer = new Tokenizer(tokens, config);
  const [graph, ...rest] = await Promise.all(app.files.map((file) => bytes(file, count)));
  const externalData = rest.map((data, place) => ({ path: app.files[place + 1].path, data }));
  let failed;
  for (const name of await backends(app, backend)) {
    try {
      const { default: ort } = await import(RUNTIMES[name]);
      ort.env.logLevel = "error";
      if (threads) ort.env.wasm.numThreads = threads;
      const kept = Object.fromEntries(
        app.past.map(({ to }) => [to, name === "webgpu" ? "gpu-buffer" : "cpu"]),
      );
      const session = await ort.InferenceSession.create(graph, {
        executionProviders: [name],
        externalData,
        preferredOutputLocation: { logits: "cpu", ...kept },
      });
      const model = new Model(app, config, tokenizer, ort, session, name);
      model.proveTokenizer();
      return model;
    } catch (error) {
      failed = error;
    }
  }
  throw failed;
}

export class Model {
  constructor(app, config, tokenizer, ort, session, backend) {
    Object.assign(this, { app, config, tokenizer, ort, session, backend });
    this.threads = backend === "wasm" ? ort.env.wasm.numThreads : 0;
    this.controls = Object.keys(app.control_tokens).sort((a, b) => b.length - a.length);
  }

  /** That texts become the ids here that they became when the model was measured. */
  proveTokenizer() {
    for (const { prompt, ids } of this.app.examples)
      if (this.encode([prompt]).join() !== ids.join())
        throw new Error(`this tokenizer reads ${JSON.stringify(prompt)} otherwise than training did`);
  }

  /** Token ids of pieces that are encoded apart, behind the prefix, which is not doubled. */
  encode(pieces) {
    const ids = pieces.flatMap((piece) => this.tokenizer.encode(piece, { add_special_tokens: false }).ids);
    const prefix = this.app.prefix_ids;
    return ids.slice(0, prefix.length).join() === prefix.join() ? ids : [...prefix, ...ids];
  }

  decode(ids) {
    return this.tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** Ids of the prompt for these values of its columns. */
  async ids(values) {
    const { parts, chat } = this.app;
    if (parts === null) return this.idsOfMessages(this.messages(values, chat));
    const { text, typed } = filled(parts, values);
    return this.encode(cut(text, this.cuts(text, typed)));
  }

  /** A question as the messages that training made of one. */
  messages(values, { system, user }) {
    const { text } = filled(user, values);
    return [...(system === null ? [] : [{ role: "system", content: system }]), { role: "user", content: text }];
  }

  /** Ids of a conversation by the model's chat template, up to where an answer begins. */
  async idsOfMessages(messages, tools = null) {
    const { Template } = await import("./runtime/jinja.mjs");
    const template = await this.chatTemplate(Boolean(tools?.length));
    const mark = unused(JSON.stringify([messages, tools, template]));
    const marked = (value) => {
      if (typeof value === "string") {
        const cuts = this.cuts(value, [[0, value.length]]);
        return cuts.length ? cut(value, cuts).join(mark) : value;
      }
      if (Array.isArray(value)) return value.map(marked);
      if (value === null || typeof value !== "object") return value;
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [marked(name), marked(each)]));
    };
    // Jinja's own clock cannot be given another time, but another name.
    const text = new Template(template.replaceAll("strftime_now", "stopped_clock")).render({
      ...special(this.config),
      messages: marked(messages),
      tools: tools?.length ? marked(tools) : null,
      documents: null,
      add_generation_prompt: true,
      enable_thinking: this.app.enable_thinking,
      stopped_clock: stopped,
    });
    return this.encode(text.split(mark).filter(Boolean));
  }

  async chatTemplate(tools) {
    this.template ??= await get("chat_template.jinja")
      .then((answer) => answer.text())
      .catch(() => this.config.chat_template);
    if (!Array.isArray(this.template)) return this.template;
    const named = Object.fromEntries(this.template.map(({ name, template }) => [name, template]));
    return (tools && named.tool_use) || named.default;
  }

  /**
   * Where a text is cut so that the control tokens that somebody typed stay text: behind the first
   * character of each, or where a value begins that ends one which the template began.
   */
  cuts(text, typed) {
    const found = new Set();
    for (let place = 0; place < text.length; place++) {
      const token = this.controls.find((each) => text.startsWith(each, place));
      if (!token) continue;
      if (typed.some(([begin, end]) => begin <= place && place < end))
        found.add(place + String.fromCodePoint(text.codePointAt(place)).length);
      else {
        const next = typed.find(([begin, end]) => begin < end && begin > place);
        if (next && next[0] < place + token.length) found.add(next[0]);
      }
    }
    return [...found];
  }

  /** The text of a greedy answer, again and again as it grows. */
  async *answer(values, limit = this.app.max_new_tokens) {
    const answer = [];
    for await (const token of this.tokens(await this.ids(values), limit)) {
      answer.push(token);
      yield this.decode(answer);
    }
  }

  /** Tokens of a greedy answer, one by one, without the stop token. */
  async *tokens(prompt, limit = this.app.max_new_tokens) {
    const { ort, app } = this;
    if (prompt.length >= app.context_length)
      throw new Error(`the prompt has ${prompt.length} tokens, the model's context ${app.context_length}`);
    const int64 = (list) => new ort.Tensor("int64", BigInt64Array.from(list, BigInt), [1, list.length]);
    const past = {};
    for (const { from } of app.past) past[from] = new ort.Tensor("float32", [], app.past_shape);
    let ids = prompt;
    try {
      for (let seen = ids.length, made = 0; made < limit && seen < app.context_length; seen++, made++) {
        const given = { input_ids: int64(ids), attention_mask: int64(Array(seen).fill(1)) };
        if (app.positions) given.position_ids = int64(ids.map((_, place) => seen - ids.length + place));
        const out = await this.session.run({ ...given, ...past });
        const width = out.logits.dims[2];
        const last = out.logits.data.subarray(-width);
        let next = 0;
        for (let token = 1; token < width; token++) if (last[token] > last[next]) next = token;
        for (const { from, to } of app.past) {
          past[from].dispose();
          past[from] = out[to];
        }
        if (app.stops.includes(next)) return;
        ids = [next];
        yield next;
      }
    } finally {
      for (const tensor of Object.values(past)) tensor.dispose();
    }
  }
}

/** The text of parts (a text, or the name of a column in a list), and what of it somebody typed. */
function filled(parts, values) {
  let text = "";
  const typed = [];
  for (const part of parts) {
    const value = typeof part === "string" ? part : values[part[0]];
    if (typeof value !== "string") throw new Error(`no value for ${part[0]}`);
    if (typeof part !== "string") typed.push([text.length, text.length + value.length]);
    text += value;
  }
  return { text, typed };
}

function cut(text, cuts) {
  const borders = [0, ...cuts.sort((a, b) => a - b), text.length];
  return borders.slice(1).map((end, place) => text.slice(borders[place], end)).filter(Boolean);
}

/** A character of a private plane that a text does not hold. */
function unused(text) {
  for (let code = 0x10fffd; ; code--) {
    const mark = String.fromCodePoint(code);
    if (!text.includes(mark)) return mark;
  }
}

function special(config) {
  const names = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"].map((name) => `${name}_token`);
  const text = (token) => token?.content ?? token;
  return Object.fromEntries(names.filter((name) => config[name]).map((name) => [name, text(config[name])]));
}

/** The day that training saw: templates that write one get the same every day. */
function stopped(format) {
  const parts = { d: "26", m: "07", Y: "2024", y: "24", b: "Jul", B: "July", a: "Fri", A: "Friday", H: "00", M: "00", S: "00" };
  return format.replace(/%([a-zA-Z])/g, (whole, letter) => parts[letter] ?? whole);
}
