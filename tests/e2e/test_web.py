"""A model in a real browser: splits texts as training did, answers as the CPU's provider does.

Needs Chromium and the packages of npm that a page is packed with, in ``tests/node/packed``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.export.export import export
from slmcompile.inference import web_folder
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import target_section
from slmcompile.release.programs import Asked
from slmcompile.release.web import SITE, app
from slmcompile.release.web_runtime import FOLDER, PINNED, fetching, runtime
from tests.browser import CHROMIUM, SOFTWARE_GPU, serving
from tests.data_stage import CHAT, TEXT, Prepared, make_config, write_jsonl
from tests.projects import REPOSITORY, command, make_repository
from tests.tiny_model import make_adapter, make_base, make_rows
from tests.tiny_tokenizer import CHATML, DEFAULT_SYSTEM, GEMMA, REASONING, make_tokenizer
from tests.workplace import Workplace

PACKED = REPOSITORY / "tests/node/packed"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: `apt-get install chromium`"),
    pytest.mark.skipif(
        not all((PACKED / each.archive).is_file() for each in PINNED),
        reason=f"run `{fetching().replace(f'.slmcompile/{FOLDER}', 'tests/node/packed')}`",
    ),
]
NEAR = 0.02
"""Between the two best logits: what they may differ in for another token to be no fault."""
TOKENS = 24
READY = """
const state = await until(() => !page("progress") || !/Load|Start/.test(page("state").textContent)
  ? page("state")?.textContent : "");
"""
MODEL = """
const { open } = await import("./model.mjs");
const model = await open(%s);
"""


def lay(project: Path) -> Project:
    """The packages of npm in a project's folder."""
    folder = project / ".slmcompile" / FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(PACKED, folder)
    return Project(project)


# --- a package of a recipe -------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The tiny recipe, run for a browser."""
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    recipe = root / "recipes/tiny.yaml"
    text = recipe.read_text(encoding="utf-8").replace("[cpu-fp32]", "[cpu-fp32, web-int8]")
    recipe.write_text(text, encoding="utf-8")
    work = Workplace(root)
    work.run("run", "tiny")
    return work


@pytest.fixture(scope="module")
def folder(work: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package unpacks to."""
    lay(work.root)
    out = tmp_path_factory.mktemp("package")
    work.run("package", "tiny", "--target", "web-int8", "--out", f"{out}/a.zip")
    work.run("package", "tiny", "--target", "web-int8", "--out", f"{out}/b.zip")
    assert (out / "a.zip").read_bytes() == (out / "b.zip").read_bytes()
    command(out, sys.executable, "-m", "zipfile", "-e", "a.zip", ".")
    return out / "tiny-web-int8"


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "plain"])
def test_a_page_answers_as_measured_and_asks_no_other_host(
    work: Workplace, folder: Path, tmp_path: Path, isolated: bool
) -> None:
    """Five sentences by its own button, one of a person's with a control token in it."""
    text = "turn off <|im_end|> the radio"
    script = f"""{READY}
    page("check").click();
    await until(() => !page("send").disabled && page("checked").textContent);
    const field = page("fields").querySelector("textarea");
    field.value = {json.dumps(text)};
    page("send").click();
    await until(() => page("speed").textContent && !page("send").disabled);
    return {{
      state, checked: page("checked").textContent, title: frame.contentDocument.title,
      answer: frame.contentDocument.querySelector(".answer").textContent,
      speed: page("speed").textContent, isolated: frame.contentWindow.crossOriginIsolated,
    }};
    """
    with serving(folder, isolated=isolated) as served:
        told = served.run(script, tmp_path, query="?threads=2")
    assert told["isolated"] is isolated
    assert ("2 threads" if isolated else "not isolated: one thread") in told["state"]
    assert told["checked"].startswith("5 of 5 are answered as they were measured")
    assert told["title"] == "tiny-web-int8"
    asked = work.run("generate", "tiny", "--target", "web-int8", text)
    assert told["answer"] == asked.stdout.strip()
    assert re.match(r"\d+ tokens?, .*first after [\d.]+ s", told["speed"])
    assert served.elsewhere == []
    listed = {f"/{path.relative_to(folder)}" for path in folder.rglob("*")}
    ours = {path.partition("?")[0] for path in served.paths} - {"/test.html", "/favicon.ico"}
    assert ours <= listed
    assert "/runtime/ort-wasm-simd-threaded.wasm" in ours


def test_a_page_whose_tokenizer_reads_otherwise_answers_nothing(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    path = other / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    del tokenizer["model"]["merges"][:4]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with serving(other, isolated=False) as served:
        script = f'{READY} return {{ state, sends: !page("send").disabled }};'
        told = served.run(script, tmp_path / "profile")
    assert "otherwise than training did" in told["state"]
    assert told["sends"] is False


def test_its_card_and_notice_say_how_it_is_used_and_whose_works_it_has(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "python serve.py" in card
    assert "Emulated" in card
    assert "run.py" not in card
    (program,) = re.findall(r"```js\n(.*?)\n```", card, flags=re.DOTALL)
    assert 'from "./model.mjs"' in program
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    for each in PINNED:
        assert f"{each.name} {each.version}, license: {each.license}" in notice
    licences = {path.name for path in (folder / "runtime").iterdir()}
    assert {"tokenizers.LICENSE", "jinja.LICENSE", "onnxruntime.LICENSE"} <= licences
    assert "OK" in command(folder, "sha256sum", "-c", "SHA256SUMS").stdout


# --- the modules alone, on random models -------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter"))


def page_of(base: Path, adapter: Path, prompt: dict[str, Any], precision: str, place: Path) -> Path:
    """An export and the files of a page, without a recipe."""
    written = place / "prompt.json"
    written.write_text(json.dumps(prompt), encoding="utf-8")
    out, scratch = place / "page", place / "scratch"
    out.mkdir()
    scratch.mkdir()
    target = target_section({"execution_provider": "web", "precision": precision})
    export(target, base, adapter, written, make_rows(base), out, scratch, Silent())
    for path in SITE.iterdir():
        if path.is_file():
            shutil.copyfile(path, out / path.name)
    (out / "runtime").mkdir()
    for name, data in runtime(lay(place / "project"), webgpu=True).items():
        (out / "runtime" / name).write_bytes(data)
    describe(out, prompt)
    return out


def describe(out: Path, prompt: dict[str, Any]) -> None:
    """Writes ``app.json``."""
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))["model"]
    sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
    told = app("tiny", Asked(prompt, config), sizes, webgpu=True)
    (out / "app.json").write_text(json.dumps(told), encoding="utf-8")


PROMPT: dict[str, Any] = {
    "text": "{text}",
    "columns": ["text"],
    "template": {"type": "text"},
    "stop": {"id": 2, "text": "<|im_end|>"},
    "prefix_ids": [],
    "control_tokens": {},
}
ANSWERS = """
const answers = [];
for (const ids of %s) {
  const answer = [];
  for await (const token of model.tokens(ids, %d)) answer.push(token);
  answers.push(answer);
}
return { backend: model.backend, answers };
"""


def require_same(out: Path, prompts: Sequence[list[int]], found: Sequence[list[int]]) -> None:
    """The greedy answers of the CPU's provider, but for tokens that are nearly as likely."""
    model = web_folder.load(out, 1)
    answers = model.generate(prompts, TOKENS, 1, lambda _: None)
    assert any(each.ids for each in answers)
    for prompt, expected, other in zip(prompts, answers, found, strict=True):
        ends = [*expected.ids, -1], [*other, -1]
        differs = next((at for at, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), None)
        if differs is None:
            continue
        logits = model.logits([[*prompt, *expected.ids[:differs]]])[0][-1]
        second, first = sorted(logits)[-2:]
        assert first - second < NEAR, (differs, expected.ids, other)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_webassembly_answers_what_the_cpus_provider_answers(
    base: Path, adapter: Path, tmp_path: Path, precision: str
) -> None:
    out = page_of(base, adapter, PROMPT, precision, tmp_path)
    prompts = [row.prompt_ids for row in make_rows(base)[:5]]
    opened = MODEL % '{ backend: "wasm" }'
    with serving(out, isolated=True) as served:
        told = served.run(opened + ANSWERS % (prompts, TOKENS), tmp_path / "profile")
    require_same(out, prompts, told["answers"])


def test_webgpu_answers_it_too(base: Path, adapter: Path, tmp_path: Path) -> None:
    """By a graphics processor in software, which Chromium has; kinds of real ones are not told."""
    out = page_of(base, adapter, PROMPT, "int4", tmp_path)
    prompts = [row.prompt_ids for row in make_rows(base)[:2]]
    look = "if (!(await navigator.gpu?.requestAdapter())) return {};"
    with serving(out, isolated=True) as served:
        script = look + MODEL % "" + ANSWERS % (prompts, TOKENS)
        told = served.run(script, tmp_path / "profile", *SOFTWARE_GPU)
    if not told:
        pytest.skip("this Chromium has no WebGPU, not even in software")
    assert told["backend"] == "webgpu"
    require_same(out, prompts, told["answers"])


def test_a_conversation_goes_on_in_the_page(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A second question is asked behind the first one and its answer."""
    prompt = {**PROMPT, "template": {"type": "messages"}, "text": None}
    out = page_of(base, adapter, prompt, "fp32", tmp_path)
    described = json.loads((out / "app.json").read_text(encoding="utf-8"))
    described["max_new_tokens"] = 12  # a random model seldom ends by itself
    (out / "app.json").write_text(json.dumps(described), encoding="utf-8")
    script = f"""{READY}
    const said = [];
    for (const text of ["turn on the light", "and the lamp?"]) {{
      page("fields").querySelector("textarea").value = text;
      page("send").click();
      await until(() => !page("send").disabled);
      said.push(page("talk").lastElementChild.textContent);
    }}
    const {{ open }} = await import("./model.mjs");
    const model = await open();
    const [first] = said;
    const messages = [
      {{ role: "user", content: "turn on the light" }},
      {{ role: "assistant", content: first }},
      {{ role: "user", content: "and the lamp?" }},
    ];
    const answers = [];
    for (const talk of [messages.slice(0, 1), messages]) {{
      const answer = [];
      for await (const token of model.tokens(await model.idsOfMessages(talk))) answer.push(token);
      answers.push(model.decode(answer));
    }}
    const kinds = [...page("talk").children].map((each) => each.className);
    return {{ said, answers, kinds }};
    """
    with serving(out, isolated=False) as served:
        told = served.run(script, tmp_path / "profile")
    assert told["kinds"] == ["asked", "answer"] * 2
    assert told["said"] == told["answers"]
    assert all(told["said"])


TEXTS = (
    "turn on the light",
    "  Straße, naïve — 東京の天気 \U0001f44d\U0001f3fd, 12345 x\n\n\ty ",
    "",
    "say <|im_end|> and <|im_start|>system, or <|im_<|im_end|>",
    "العربية हिन्दी e\u0301 \u200d\ufeff \x00 end",
)


def talk(n: int) -> dict[str, Any]:
    """Conversations of several turns; the last answer alone is trained, so all else is asked."""
    said = TEXTS[n % len(TEXTS)] or "hello"
    system = [{"role": "system", "content": ("Be brief.", said)[n % 2]}] if n % 4 else []
    call = {"function": {"name": "weather", "arguments": {"town": said, "days": 2, "now": True}}}
    turns = [
        {"role": "user", "content": said},
        {"role": "assistant", "content": f"it is {n}", "weight": 0},
        {"role": "user", "content": f"and {said} then?"},
    ]
    used = [
        {"role": "assistant", "content": "I look", "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": f"{n} degrees"},
    ]
    answer = {"role": "assistant", "content": f"so it is {n}"}
    offered = {"type": "function", "function": {"name": "weather", "parameters": {"town": "étage"}}}
    with_tools = n % 2 == 1
    messages = [*system, *turns, *(used if with_tools else []), answer]
    return {"messages": messages, "tools": [offered] if with_tools else None}


def one(n: int) -> dict[str, str]:
    return {"text": f"{n} {TEXTS[n % len(TEXTS)]}", "answer": f"answer {n}"}


SHOUTING = CHATML.replace("'content'] +", "'content'] | upper +")
"""Changes values, so that no text tells a prompt: the page asks the template itself."""
DATED = "{{ strftime_now('%d %b %Y') }}\n"
"""As Llama 3's: writes a day, which is the same in training and in a page."""
FORMS: dict[str, tuple[str | None, dict[str, Any], Callable[[int], Any]]] = {
    "text": (None, {**TEXT, "prompt": "<|im_start|>user\n{text}<|im_end|>\n"}, one),
    "chat": (DEFAULT_SYSTEM, CHAT, one),
    "chat, empty system turn": (DEFAULT_SYSTEM, {**CHAT, "system": ""}, one),
    "chat that shouts": (SHOUTING, {**CHAT, "system": "Be brief."}, one),
    "chat that trims": (GEMMA, {**CHAT, "user": "<{text}>"}, one),
    "talk with tools": (DATED + REASONING, {"type": "messages"}, talk),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_are_those_of_training(base: Path, adapter: Path, tmp_path: Path, form: str) -> None:
    """Several turns, Unicode, an empty system turn, tools, and control tokens that texts spell."""
    chat_template, template, row = FORMS[form]
    tokens = make_tokenizer(
        tmp_path / "tokens", chat_template=chat_template, more=("<think>", "</think>")
    )
    values = [row(n) for n in range(40)]
    if form != "talk with tools":
        values = [value for value in values if value["text"].strip()]
    write_jsonl(tmp_path / "project", values)
    config = make_config(template=template, label=None, task="generation", special_tokens="text")
    done = Prepared(tmp_path, config, tokens)
    (tmp_path / "page").mkdir()
    out = page_of(base, adapter, PROMPT, "fp32", tmp_path / "page")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokens / name, out / name)
    (out / "chat_template.jinja").unlink(missing_ok=True)
    describe(out, done.prompt)
    given = [
        {"messages": [strip(each) for each in value["messages"][:-1]], "tools": value["tools"]}
        if "messages" in value
        else {"text": value["text"]}
        for value in (values[row.id] for row in done.rows)
    ]
    script = """
    const found = [];
    for (const { messages, tools, ...values } of %s)
      found.push(await (messages ? model.idsOfMessages(messages, tools) : model.ids(values)));
    return found;
    """
    with serving(out, isolated=False) as served:
        told = served.run(MODEL % "" + script % json.dumps(given), tmp_path / "profile")
    assert len(told) == len(values)
    for row, ids in zip(done.rows, told, strict=True):
        assert ids == row.prompt_ids, row.prompt


def strip(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a page has it."""
    return {name: value for name, value in message.items() if name != "weight"}
