"""What the data stage trains, on small real files with a small real tokenizer."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import slmcompile.data.chat_render as chat_render
from slmcompile.console.errors import RefusedError
from slmcompile.data.chat_render import Request, render_all
from slmcompile.data.prompt import prompt_pieces
from slmcompile.data.store import IGNORED
from slmcompile.data.tokenizer import load_tokenizer
from tests.data_stage import CHAT, TEXT, Prepared, make_config, rows, write_jsonl
from tests.projects import plant_modules
from tests.tiny_tokenizer import CHATML, DEFAULT_SYSTEM, GEMMA, make_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, rows())
    return folder


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("adds_bos_and_eos", [False, True])
@pytest.mark.parametrize("template", [TEXT, CHAT], ids=["text", "chat"])
def test_answer_and_stop_token_are_trained_and_nothing_else(
    tmp_path: Path,
    project: Path,
    template: dict[str, str],
    adds_bos_and_eos: bool,
    pad_is_eos: bool,
) -> None:
    base = make_tokenizer(
        tmp_path / "other", pad_is_eos=pad_is_eos, adds_bos_and_eos=adds_bos_and_eos
    )
    done = Prepared(tmp_path, make_config(template=template), base)
    tokenizer = load_tokenizer(base)
    stop = tokenizer.eos_token_id
    assert len(done.rows) == len(rows())
    for row in done.rows:
        assert row.input_ids[: len(row.prompt_ids)] == row.prompt_ids
        assert set(row.labels[: len(row.prompt_ids)]) == {IGNORED}
        assert row.labels[len(row.prompt_ids) :] == row.input_ids[len(row.prompt_ids) :]
        assert row.labels[-1] == stop
        assert tokenizer.decode(row.input_ids[len(row.prompt_ids) :]) == (
            row.completion + "<|im_end|>"
        )
        source = rows()[row.id]
        assert json.loads(row.completion) == source["answer"]
        assert row.completion == json.dumps(source["answer"])
        assert row.label == source["answer"]["intent"]


def test_prompt_ids_are_those_that_inference_sends(tmp_path: Path, project: Path) -> None:
    base = make_tokenizer(tmp_path / "other", adds_bos_and_eos=True)
    done = Prepared(tmp_path, make_config(), base)
    tokenizer = load_tokenizer(base)
    for row in done.rows[:10]:
        (served,) = prompt_pieces(done.prompt, {"text": rows()[row.id]["text"]})
        assert served == row.prompt
        sent = tokenizer(served)["input_ids"]
        assert sent[0] == row.prompt_ids[0]
        assert sent[-1] == tokenizer.eos_token_id  # this tokenizer ends texts; a prompt has no end
        assert sent[:-1] == row.prompt_ids
        again = tokenizer(served, add_special_tokens=done.prompt["add_special_tokens"])["input_ids"]
        assert done.prompt["prefix_ids"] + again == row.prompt_ids


def test_stop_token_in_the_template_is_not_doubled(
    tmp_path: Path, project: Path, base: Path
) -> None:
    template = TEXT | {"completion": "{answer}<|im_end|>"}
    done = Prepared(tmp_path, make_config(template=template), base)
    stop = load_tokenizer(base).eos_token_id
    assert all(row.input_ids.count(stop) == 1 for row in done.rows)
    assert not any(row.completion.endswith("<|im_end|>") for row in done.rows)


def test_bos_in_the_template_is_not_doubled(tmp_path: Path, project: Path) -> None:
    base = make_tokenizer(tmp_path / "other", adds_bos_and_eos=True)
    template = TEXT | {"prompt": "<|endoftext|>{text} = "}
    done = Prepared(tmp_path, make_config(template=template), base)
    bos = load_tokenizer(base)("<|endoftext|>", add_special_tokens=False)["input_ids"][0]
    assert all(row.input_ids.count(bos) == 1 for row in done.rows)


@pytest.mark.parametrize(
    "template", [CHATML, DEFAULT_SYSTEM, GEMMA], ids=["chatml", "system", "gemma"]
)
def test_chat_rows_are_what_the_tokenizer_renders(
    tmp_path: Path, project: Path, template: str
) -> None:
    from transformers import AutoTokenizer

    base = make_tokenizer(tmp_path / "other", chat_template=template)
    done = Prepared(tmp_path, make_config(template=CHAT), base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    renderer = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
    for row in done.rows[:10]:
        source = rows()[row.id]
        user = {"role": "user", "content": source["text"]}
        answer = {"role": "assistant", "content": json.dumps(source["answer"])}
        prompt = renderer([user])
        whole = tokenizer.apply_chat_template([user, answer], tokenize=False)
        assert row.prompt == prompt
        assert whole.removesuffix("\n") == row.prompt + row.completion + done.prompt["stop"]["text"]
        ids = tokenizer.apply_chat_template([user, answer], tokenize=True, return_dict=False)
        assert row.input_ids == ids[: len(row.input_ids)]
        values = {"text": source["text"]}
        assert prompt_pieces(done.prompt, values) == (prompt,)
    assert prompt_pieces(done.prompt | {"text": None}, values, renderer) == (prompt,)
    assert done.prompt["stop"]["text"] == ("<end_of_turn>" if template == GEMMA else "<|im_end|>")


def test_a_chat_template_that_changes_values_is_not_served_as_a_format_string(
    tmp_path: Path, project: Path
) -> None:
    from transformers import AutoTokenizer

    template = CHATML.replace("message['content'] +", "message['content'] | upper +")
    base = make_tokenizer(tmp_path / "other", chat_template=template)
    done = Prepared(tmp_path, make_config(template=CHAT, label=None), base)
    assert "TURN ON" in done.rows[0].prompt.upper()
    assert done.prompt["text"] is None
    tokenizer = AutoTokenizer.from_pretrained(base)
    renderer = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
    (served,) = prompt_pieces(done.prompt, {"text": "turn on the hall 3"}, renderer)
    assert served in {row.prompt for row in done.rows}


def test_every_assistant_turn_of_a_conversation_is_trained(tmp_path: Path, base: Path) -> None:
    def turns(n: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"first {n}"},
            {"role": "assistant", "content": f"yes {n}"},
            {"role": "user", "content": f"second {n}"},
            {"role": "assistant", "content": f"no {n}"},
        ]

    write_jsonl(tmp_path / "project", [{"messages": turns(n)} for n in range(30)])
    done = Prepared(
        tmp_path, make_config(template={"type": "messages"}, label=None, task="generation"), base
    )
    tokenizer = load_tokenizer(base)
    for row in done.rows:
        trained = [token for token in row.labels if token != IGNORED]
        assert tokenizer.decode(trained) == f"yes {row.id}<|im_end|>no {row.id}<|im_end|>"
        assert row.completion == f"no {row.id}"
        assert tokenizer(row.prompt, add_special_tokens=False)["input_ids"] == row.prompt_ids
    assert [s["trained"] for s in done.report["examples"][0]["segments"]] == [False, True] * 2


def test_templates_see_no_clock(tmp_path: Path, project: Path) -> None:
    base = make_tokenizer(
        tmp_path / "other", chat_template="{{ strftime_now('%d %b %Y') }}" + CHATML
    )
    done = Prepared(tmp_path, make_config(template=CHAT), base)
    assert all(row.prompt.startswith("26 Jul 2024<|im_start|>") for row in done.rows)


def test_the_process_that_renders_imports_nothing_from_the_project(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, canary = tmp_path / "stranger", tmp_path / "canary"
    stranger.mkdir()
    plant_modules(stranger, canary)
    monkeypatch.chdir(stranger)
    template = CHATML.replace("message['content'] +", "message['content'] | upper +")
    base = make_tokenizer(tmp_path / "other", chat_template=template)
    assert Prepared(tmp_path, make_config(template=CHAT, label=None), base).rows
    assert not canary.exists()


def test_a_chat_template_that_explodes_is_stopped(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    base = make_tokenizer(tmp_path / "other", chat_template=bomb + CHATML)
    # The limit is read in the child from the same module; shorten it there by its environment.
    sitecustomize = tmp_path / "path"
    sitecustomize.mkdir()
    (sitecustomize / "sitecustomize.py").write_text(
        "import slmcompile.data.chat_limits as limits\nlimits._BASE_SECONDS = 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(sitecustomize))
    with pytest.raises(RefusedError, match="CPU seconds"):
        Prepared(tmp_path, make_config(template=CHAT), base)


def test_a_large_set_is_rendered_in_shares_and_one_endless_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on text is one process's: a set of conversations may be of any length."""
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "base"))

    def asked(length: int, count: int = 1) -> list[Request]:
        content = "x" * length
        return [
            Request([{"role": "user", "content": f"{n} {content}"}], True) for n in range(count)
        ]

    whole = render_all(tokenizer, asked(100, 20))
    # The child reads its limit from the same module; shorten it there by its environment.
    sitecustomize = tmp_path / "path"
    sitecustomize.mkdir()
    (sitecustomize / "sitecustomize.py").write_text(
        "import slmcompile.data.chat_limits as limits\nlimits.MAX_CHARACTERS = 2000\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(sitecustomize))
    monkeypatch.setattr(chat_render, "ASKED_CHARACTERS", 1000)
    assert render_all(tokenizer, asked(100, 20)) == whole
    monkeypatch.setattr(chat_render, "ASKED_REQUESTS", 7)
    assert render_all(tokenizer, asked(1, 20)) == render_all(tokenizer, asked(1, 21))[:20]
    with pytest.raises(RefusedError, match="too much memory"):
        render_all(tokenizer, [*asked(1, 3), *asked(2000)])
