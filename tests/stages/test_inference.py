"""torch and onnxruntime-genai answer alike, batched or not, and score alike."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmcompile.cli import generate as talk
from slmcompile.console.errors import CorruptError
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import load_tokenizer
from slmcompile.export.export import export
from slmcompile.inference import onnx_model, torch_model
from slmcompile.inference.batching import (
    PREFILL_BYTES,
    decoded_together,
    similar_length,
    until_stop,
)
from slmcompile.inference.protocol import Generated, LanguageModel
from slmcompile.inference.streamed_answer import Answer
from slmcompile.providers.cpu import CpuTarget
from tests.tiny_model import make_adapter, make_base, make_rows

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Base, adapter and fp32 export."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inference")
    base = make_base(folder, max_position_embeddings=128)
    adapter = make_adapter(base, folder / "adapter")
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir()
    scratch.mkdir()
    (folder / "prompt.json").write_text("{}", "utf-8")
    target = CpuTarget(precision="fp32")
    rows = make_rows(base)
    export(target, base, adapter, folder / "prompt.json", rows, out, scratch, Silent())
    return base, adapter, out


@pytest.fixture(scope="module")
def models(folders: tuple[Path, Path, Path]) -> dict[str, LanguageModel]:
    base, adapter, out = folders
    return {
        "torch": torch_model.load(base, adapter, 1, "fp32"),
        "onnx": onnx_model.load(out, 1),
    }


def _silent(_: int) -> None:
    """Progress that nobody looks at."""


def _total(model: LanguageModel, rows: list[Row]) -> float:
    return sum(score for score, _ in model.log_likelihood(rows))


def test_torch_and_fp32_onnx_generate_the_same(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel]
) -> None:
    prompts = [row.prompt_ids for row in make_rows(folders[0])]
    answers = {name: model.generate(prompts, 20, 4, _silent) for name, model in models.items()}
    assert answers["torch"] == answers["onnx"]
    assert len({tuple(answer.ids) for answer in answers["torch"]}) > 3


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_batches_answer_as_single_prompts_do(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel], name: str
) -> None:
    prompts = [row.prompt_ids for row in make_rows(folders[0])]
    progress: list[int] = []
    batched = models[name].generate(prompts, 20, 8, progress.append)
    assert batched == [models[name].generate([each], 20, 1, _silent)[0] for each in prompts]
    assert progress[-1] == len(prompts)
    assert progress == sorted(progress)
    assert len(progress) < len(prompts)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_streaming_gives_what_generating_gives(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel], name: str
) -> None:
    for row in make_rows(folders[0])[:3]:
        whole = models[name].generate([row.prompt_ids], 10, 1, _silent)[0]
        assert list(models[name].stream(row.prompt_ids, 10)) == whole.ids


def _stopping_at(folders: tuple[Path, Path, Path], to: Path, stops: list[int]) -> Path:
    base, _, out = folders
    shutil.copytree(base, to / "base")
    shutil.copytree(out, to / "out")
    for path, keys in (
        (to / "base" / "generation_config.json", []),
        (to / "out" / "genai_config.json", ["model"]),
    ):
        whole = json.loads(path.read_text("utf-8"))
        part = whole[keys[0]] if keys else whole
        part["eos_token_id"] = stops
        path.write_text(json.dumps(whole), "utf-8")
    return to


def test_every_runtime_stops_at_every_stop_token(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel], tmp_path: Path
) -> None:
    prompts = [row.prompt_ids for row in make_rows(folders[0])]
    free = models["torch"].generate(prompts, 16, 4, _silent)
    stops = sorted({free[0].ids[4], free[1].ids[7]})
    _stopping_at(folders, tmp_path, [2, *stops])
    expected = [until_stop(answer.ids, stops, 16) for answer in free]
    assert {answer.cut_off for answer in expected} == {True, False}
    assert all(len(answer.ids) < 16 or answer.cut_off for answer in expected)
    for model in (
        torch_model.load(tmp_path / "base", folders[1], 1, "fp32"),
        onnx_model.load(tmp_path / "out", 1),
    ):
        assert model.generate(prompts, 16, 8, _silent) == expected
        assert list(model.stream(prompts[0], 16)) == expected[0].ids


def test_an_answer_as_long_as_its_limit_is_not_cut_off_where_the_stop_token_follows(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel], tmp_path: Path
) -> None:
    prompt = make_rows(folders[0])[0].prompt_ids
    (free,) = models["torch"].generate([prompt], 16, 1, _silent)
    place = next(n for n in range(2, 16) if free.ids[n] not in free.ids[:n])
    _stopping_at(folders, tmp_path, [free.ids[place]])
    for model in (
        torch_model.load(tmp_path / "base", folders[1], 1, "fp32"),
        onnx_model.load(tmp_path / "out", 1),
    ):
        assert model.generate([prompt], place, 1, _silent) == [Generated(free.ids[:place], False)]
        assert model.generate([prompt], place - 1, 1, _silent) == [
            Generated(free.ids[: place - 1], True)
        ]


def test_what_generate_says_of_an_answers_end_is_what_evaluation_says(
    folders: tuple[Path, Path, Path],
    models: dict[str, LanguageModel],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slmcompile.data.prompt.prompt_pieces", lambda *_: ())
    prompt = make_rows(folders[0])[0].prompt_ids
    (free,) = models["torch"].generate([prompt], 16, 1, _silent)
    place = next(n for n in range(2, 16) if free.ids[n] not in free.ids[:n])
    _stopping_at(folders, tmp_path, [free.ids[place]])
    model = onnx_model.load(tmp_path / "out", 1)
    encoded = [prompt]
    model.encode = lambda _: list(encoded[0])  # type: ignore[method-assign]
    asked = talk._Export("tiny", "", "cpu-fp32", tmp_path / "out", "", {})
    for limit in (place - 1, place, place + 1):
        talk._answer(asked, model, {}, limit, as_json=True)
        said = capsys.readouterr()
        document = json.loads(said.out)
        (same,) = model.generate([prompt], limit, 1, _silent)
        assert (document["tokens"], document["cut_off"]) == (len(same.ids), same.cut_off), limit
        tokens = f"{limit} token{'s' * (limit > 1)}"
        assert said.err == (f"(cut off at {tokens})\n" if same.cut_off else "")
    encoded[0] = [5] * 126
    answer = Answer(model, (), 12)
    "".join(answer)
    assert (answer.tokens, answer.cut_off) == (2, True), "the context is full"


def test_prompts_may_hold_and_end_with_the_padding_token(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """pad = eos, as in SmolLM2: onnxruntime-genai would take the last token for padding."""
    base, adapter, out = folders
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out" / "genai_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["model"]["pad_token_id"] = config["model"]["eos_token_id"]
    path.write_text(json.dumps(config), "utf-8")
    first = make_rows(base)[0].prompt_ids
    filler = config["model"]["vocab_size"] - 1
    stop = config["model"]["eos_token_id"]
    prompts = [first, [*first[:-2], stop, stop], [*first[:-1], filler], [stop, *first[1:]]]
    expected = torch_model.load(base, adapter, 1, "fp32").generate(prompts, 8, 4, _silent)
    assert onnx_model.load(tmp_path / "out", 1).generate(prompts, 8, 4, _silent) == expected


def test_both_score_alike_and_as_the_definition_says(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel]
) -> None:
    base, adapter, _ = folders
    rows = make_rows(base)
    reference, tokens = 0.0, 0
    from slmcompile.models.merge import load_merged

    model = load_merged(base, adapter)
    for row in rows:
        with torch.inference_mode():
            scores = model(torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for place, label in enumerate(row.labels[1:]):
            if label != IGNORED:
                reference += float(scores[place, label])
                tokens += 1
    for name, each in models.items():
        scored = each.log_likelihood(rows)
        assert [n for _, n in scored] == [sum(t != IGNORED for t in r.labels[1:]) for r in rows]
        total, count = (sum(part) for part in zip(*scored, strict=True))
        assert count == tokens, name
        assert math.exp(-total / count) == pytest.approx(math.exp(-reference / tokens), rel=1e-4)


def test_a_row_that_ends_in_the_last_id_is_scored_alike(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel]
) -> None:
    rows = make_rows(folders[0])[:3]
    last = 319
    rows[0].input_ids[-1] = rows[0].labels[-1] = last
    scores = {name: _total(model, rows) for name, model in models.items()}
    assert scores["onnx"] == pytest.approx(scores["torch"], rel=1e-5)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_answers_end_at_the_context_length(models: dict[str, LanguageModel], name: str) -> None:
    prompts = [[5] * 126, [5] * 128, [5] * 20]
    answers = models[name].generate(prompts, 12, 4, _silent)
    assert all(answer.cut_off for answer in answers)
    lengths = [len(answer.ids) for answer in answers]
    assert lengths[0] <= 2
    assert lengths[1] == 0
    assert lengths[2] == 12


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_speed_is_positive_and_ignores_stops(models: dict[str, LanguageModel], name: str) -> None:
    assert models[name].decode_speed([5, 6, 7], 4) > 1


def test_bf16_rounds_after_the_merge(folders: tuple[Path, Path, Path]) -> None:
    base, adapter, _ = folders
    rows = make_rows(base)
    exact = _total(torch_model.load(base, adapter, 1, "fp32"), rows)
    rounded = _total(torch_model.load(base, adapter, 1, "bf16"), rows)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


def test_text_round_trips_as_in_transformers(
    folders: tuple[Path, Path, Path],
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    exported = onnx_model.load(folders[2], 1)
    for row in make_rows(folders[0]):
        assert exported.encode(row.prompt) == row.prompt_ids
        for ids in (row.input_ids, row.input_ids[len(row.prompt_ids) :], []):
            assert exported.decode(ids) == tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("text", ["a\0b", "日本語 and more", "Zürich is in Germany"])
def test_an_answer_that_is_no_utf8_is_read_whole(
    folders: tuple[Path, Path, Path], text: str
) -> None:
    """A model that is not sure of a letter writes half of one; what follows it is an answer too."""
    exported = onnx_model.load(folders[2], threads=1)
    tokenizer = load_tokenizer(folders[0])
    ids = tokenizer.encode(text, add_special_tokens=False)
    for broken in (ids, *(ids[:at] + ids[at + 1 :] for at in range(len(ids)))):
        expected = tokenizer.decode(
            broken, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert exported.decode(broken) == expected


def test_a_folder_that_is_no_model_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="cannot open it"):
        onnx_model.load(tmp_path)
    nothing_ends = '{"model": {"eos_token_id": null, "context_length": 9, "vocab_size": 9}}'
    for text in ("[]", '"model"', '{"model": {"vocab_size": 9}}', nothing_ends):
        (tmp_path / "genai_config.json").write_text(text, "utf-8")
        with pytest.raises(CorruptError, match="cannot open it"):
            onnx_model.load(tmp_path)


LENGTHS = st.lists(st.integers(1, 128), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 128), st.sampled_from([320, 49152, 2_000_000]))
def test_decoded_batches_hold_every_prompt_once_with_little_padding(
    lengths: list[int], batch_size: int, room: int, vocab: int
) -> None:
    batches = list(decoded_together(lengths, batch_size, room, vocab))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        taken = [lengths[i] for i in batch]
        assert len(batch) <= min(batch_size, 32)
        assert max(taken) <= 2 * min(taken)
        assert len(set(taken)) == 1 or max(taken) <= room, "no room for all answers of the batch"
        assert len(batch) == 1 or len(batch) * max(taken) * vocab * 4 <= PREFILL_BYTES


def test_prompts_of_similar_lengths_share_their_batches_evenly() -> None:
    sizes = [len(batch) for batch in decoded_together([*range(20, 38)] * 2, 16, 99, 320)]
    assert sizes == [12, 12, 12]


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "phi3": {"pad_token_id": 0},
    # Its cap would make the logits of so large weights equal. It is in float32, as transformers has
    # it attend by a softmax in float32, to which float64's masked rows are rows of NaN.
    "gemma2": {"sliding_window": 6, "head_dim": 8, "final_logit_softcapping": None},
    "gemma3_text": {"sliding_window": 6, "head_dim": 8},
    "smollm3": {"pad_token_id": 0},
    "gpt2": {},
    "gpt_neox": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer_in_float64(family: str) -> None:
    """Whatever the family makes of positions and windows; rows stop apart and fill the context."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    sizes = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    config = AutoConfig.for_model(family, **{**sizes, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config)
    model = model if family == "gemma2" else model.double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)  # so that answers differ and run long
    choice = random.Random(5)
    prompts = [
        [choice.randrange(1, 96) for _ in range(length)]
        for length in [1, 2, 3, 5, 8, 9, 11, 13, 13, 17, 20, 26, 31, 38, 50, 55, 60, 60, 63, 64]
    ]
    ready = torch_model.TorchModel(model, frozenset({0, 7, 23}))
    alone = [ready.generate([prompt], 12, 1, _silent)[0] for prompt in prompts]
    assert len({len(answer.ids) for answer in alone}) > 3, "they stop apart"
    for batch_size in (3, 16):
        assert ready.generate(prompts, 12, batch_size, _silent) == alone


def test_onnx_pads_prompts_that_end_with_the_pad_token_and_prompts_near_the_context(
    folders: tuple[Path, Path, Path], models: dict[str, LanguageModel]
) -> None:
    described = json.loads((folders[2] / "genai_config.json").read_text("utf-8"))["model"]
    pad = described["pad_token_id"]
    whole = [token for row in make_rows(folders[0]) for token in row.prompt_ids]
    lengths = [1, 2, 3, 5, 9, 12, 17, 30, 44, 60, 71, 100, 118, 124, 127, 128]
    prompts = [whole[at : at + length] for at, length in enumerate(lengths)]
    prompts += [[*prompt, pad] for prompt in prompts[:12]]
    prompts += [[*prompt, pad, pad] for prompt in prompts[:12:3]]
    for name, model in models.items():
        alone = [model.generate([prompt], 12, 1, _silent)[0] for prompt in prompts]
        assert model.generate(prompts, 12, 8, _silent) == alone, name
    assert [len(answer.ids) for answer in alone[13:16]] == [4, 1, 0], "what the context leaves"


def test_scored_batches_respect_the_memory_bound() -> None:
    lengths = [7, 300, 12, 90, 90, 5000, 3]
    vocab = 49152
    batches = list(similar_length(lengths, vocab))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        size = 4 * vocab * len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or size <= 192 << 20
