// What a person sees: a form for the prompt's columns or a conversation, answers as they come, their speed.
// `?backend=wasm` or `webgpu`, `?threads=2`: instead of what is chosen here.

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });

let app;
let heard = () => {};
const talk = [];

/** One question to the model; what it says on the way goes to `onText`. */
const ask = (question, onText = () => {}) =>
  new Promise((resolve, reject) => {
    heard = (said) => {
      if (said.type === "text") onText(said);
      if (said.type === "done") resolve(said);
      if (said.type === "error") reject(new Error(said.text));
    };
    worker.postMessage({ type: "answer", ...question });
  });

const speed = ({ tokens, seconds, read }) =>
  `${tokens} token${tokens === 1 ? "" : "s"}` +
  (tokens > 1 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "") +
  (read === undefined ? "" : `, first after ${read.toFixed(2)} s`);

function busy(is) {
  $("send").disabled = $("check").disabled = is;
  $("stop").hidden = !is;
}

function line(kind, text) {
  const found = document.createElement("p");
  found.className = kind;
  found.textContent = text;
  $("talk").append(found);
  return found;
}

const fields = () => [...$("fields").querySelectorAll("textarea")];

function show() {
  document.title = $("name").textContent = app.name;
  const names = app.columns.length ? app.columns : ["message"];
  for (const name of names) {
    const label = document.createElement("label");
    const field = document.createElement("textarea");
    field.name = name;
    field.rows = 2;
    field.required = true;
    field.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        $("ask").requestSubmit();
      }
    };
    label.append(name, field);
    $("fields").append(label);
  }
  $("measured").hidden = app.examples.length === 0;
  for (const { values, prompt } of app.examples) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = values ? Object.values(values).join("\n") : prompt;
    button.disabled = !values;
    button.onclick = () => fields().forEach((field) => (field.value = values[field.name]));
    item.append(button);
    $("examples").append(item);
  }
}

async function answer(event) {
  event.preventDefault();
  if ($("send").disabled) return;
  const values = Object.fromEntries(fields().map((field) => [field.name, field.value]));
  const text = Object.values(values).join("\n");
  if (!app.columns.length) talk.push({ role: "user", content: text });
  else $("talk").replaceChildren();
  line("asked", text);
  const shown = line("answer", "");
  busy(true);
  try {
    const question = app.columns.length ? { values } : { messages: talk };
    const said = await ask(question, (so) => {
      shown.textContent = so.text;
      $("speed").textContent = speed(so);
    });
    shown.textContent = said.text;
    $("speed").textContent = speed(said);
    if (!app.columns.length) {
      talk.push({ role: "assistant", content: said.text });
      fields()[0].value = "";
    }
  } catch (error) {
    if (!app.columns.length) talk.pop();
    shown.className = "error";
    shown.textContent = error.message;
  }
  busy(false);
}

async function check() {
  busy(true);
  $("stop").hidden = true;
  let same = 0;
  let tokens = 0;
  let seconds = 0;
  try {
    for (const [place, example] of app.examples.entries()) {
      $("checked").textContent = `${place + 1} of ${app.examples.length} …`;
      const said = await ask({ ids: example.ids });
      const right = said.text.trim() === example.answer.trim();
      same += right;
      tokens += Math.max(said.tokens - 1, 0);
      seconds += said.seconds;
      const button = $("examples").children[place].firstChild;
      button.dataset.answer = said.text;
      button.title = right ? said.text : `here: ${said.text}\nmeasured: ${example.answer}`;
    }
    $("checked").textContent =
      `${same} of ${app.examples.length} are answered as they were measured` +
      (tokens ? `, at ${(tokens / seconds).toFixed(1)} tokens/s.` : ".");
  } catch (error) {
    $("checked").textContent = error.message;
  }
  busy(false);
}

worker.onmessage = ({ data }) => {
  if (data.type === "progress") $("progress").value = data.share;
  else if (data.type === "ready") {
    app = data.app;
    $("progress").hidden = true;
    const threads = data.threads > 1 ? `, ${data.threads} threads` : "";
    const by = data.backend === "webgpu" ? "WebGPU" : `WebAssembly${threads}`;
    const alone = data.backend === "wasm" && !crossOriginIsolated ? " The page is not isolated: one thread." : "";
    $("state").textContent = `In this page, by ${by}; nothing leaves this machine.${alone}`;
    show();
    busy(false);
  } else if (!app) {
    $("progress").hidden = true;
    $("state").textContent = data.text;
  } else heard(data);
};
worker.onerror = (event) => {
  $("state").textContent = `This browser cannot run it: ${event.message ?? "a module worker is needed"}`;
};

$("ask").onsubmit = answer;
$("check").onclick = check;
$("stop").onclick = () => worker.postMessage({ type: "stop" });
$("state").textContent = "Loading the model.";
const options = {};
if (asked.has("backend")) options.backend = asked.get("backend");
if (asked.has("threads")) options.threads = Number(asked.get("threads"));
worker.postMessage({ type: "load", options });
