"""A GGUF file: llama.cpp answers it as torch answers what was trained."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.export import built
from slmcompile.export.export import export
from slmcompile.export.parity import require_tokenizer
from slmcompile.files.artifact import sha256_file
from slmcompile.inference import gguf_file, llama_library
from slmcompile.inference.exported import open_exported
from slmcompile.inference.streamed_answer import Answer
from slmcompile.inference.torch_model import TorchModel
from slmcompile.models.merge import load_merged
from slmcompile.providers.gguf import ARCHITECTURES, GgufTarget
from tests.family_folders import make_family
from tests.tiny_model import make_base, make_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("xllamacpp", reason="llama.cpp (the extra gguf) is not installed")

Made = tuple[Path, dict[str, Any]]
PROMPT = {
    "format_version": "1.1",
    "text": "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
    "columns": ["text"],
    "stop": {"id": 2, "text": "<|im_end|>"},
}


def _export(
    base: Path, trained: Path, folder: Path, precision: str, prompt: dict[str, Any] = PROMPT
) -> Made:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    file = folder / "prompt.json"
    file.write_text(json.dumps(prompt), encoding="utf-8")
    target, rows = GgufTarget(precision=precision), make_rows(base)
    return out, export(target, base, trained, file, rows, out, scratch, Silent())


@pytest.fixture(scope="module")
def made(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("made")
    return {
        precision: _export(base, adapter, folder / precision, precision)
        for precision in ("f16", "q8_0", "q4_k_m")
    }


@pytest.mark.parametrize(("precision", "mean_kl"), [("f16", 1e-4), ("q8_0", 0.01), ("q4_k_m", 0.3)])
def test_llama_cpp_computes_what_was_trained(
    made: dict[str, Made], precision: str, mean_kl: float
) -> None:
    parity = made[precision][1]["parity"]
    assert 0 < parity["mean_kl"] < mean_kl
    assert parity["rows"] == 11


def test_fewer_bits_are_a_smaller_file(made: dict[str, Made]) -> None:
    sizes = [made[precision][1]["weights_bytes"] for precision in ("q4_k_m", "q8_0", "f16")]
    assert sizes == sorted(set(sizes))


def test_greedy_answers_and_likelihoods_are_torchs(
    base: Path, adapter: Path, made: dict[str, Made]
) -> None:
    model, rows = open_exported("gguf", made["f16"][0], 1), make_rows(base)
    own = TorchModel(load_merged(base, adapter), model.stops)
    prompts = [row.prompt_ids for row in rows]
    wanted = own.generate(prompts, 6, 1, lambda _: None)
    found = model.generate(prompts, 6, 4, lambda _: None)
    assert sum(a == b for a, b in zip(wanted, found, strict=True)) >= len(rows) - 1
    pairs = zip(own.log_likelihood(rows), model.log_likelihood(rows), strict=True)
    for (torchs, tokens), (own_sum, own_tokens) in pairs:
        assert tokens == own_tokens
        assert own_sum == pytest.approx(torchs, rel=2e-3)
    assert model.decode_speed(prompts[0], 4) > 0


def test_a_streamed_answer_is_the_text_of_the_measured_one(
    base: Path, made: dict[str, Made]
) -> None:
    model, row = gguf_file.load(made["f16"][0], 1), make_rows(base)[0]
    (answer,) = model.generate([row.prompt_ids], 12, 1, lambda _: None)
    assert "".join(Answer(model, [row.prompt], 12)) == model.decode(answer.ids)
    assert answer.ids


def test_texts_beside_those_of_the_rows_are_split_as_in_training(
    base: Path, made: dict[str, Made]
) -> None:
    from tokenizers import Tokenizer

    own, model = Tokenizer.from_file(str(base / "tokenizer.json")), gguf_file.load(made["f16"][0])
    for text in ("it's 42  degrees\n\n\tnow", "é 中 🙂!?", "<|im_start|>user", " a", "", "x\x00y"):
        ids = own.encode(text, add_special_tokens=False).ids
        assert model.encode(text) == ids, text
        assert model.decode(ids) == own.decode(ids, skip_special_tokens=False), text


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}],
    **{
        name: [
            {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            },
            BYTES,
        ]
        for name, pattern in {
            "qwen2": QWEN,
            "llama-bpe": QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
        }.items()
    },
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_splitters_that_are_known_by_name_split_as_in_training(tmp_path: Path, name: str) -> None:
    """Merges over digits, newlines and words show which splitter is at work."""
    from tokenizers import Tokenizer

    base = make_base(tmp_path / "model")
    told = json.loads((base / "tokenizer.json").read_text("utf-8"))
    vocabulary = told["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    # Two tokens at the end make room for merges that only some splitters leave possible.
    pairs = [("4", "2"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("!", "Ċ")]
    for number, (left, right) in enumerate(pairs):
        gone = next(t for t, i in vocabulary.items() if i == len(vocabulary) - 1 - number)
        told["model"]["merges"] = [
            pair for pair in told["model"]["merges"] if "".join(pair).replace(" ", "") != gone
        ]
        vocabulary[left + right] = vocabulary.pop(gone)
        told["model"]["merges"].insert(0, [left, right])
    assert last not in vocabulary
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": SPLITTERS[name]}
    (base / "tokenizer.json").write_text(json.dumps(told), "utf-8")
    own = Tokenizer.from_file(str(base / "tokenizer.json"))
    out = tmp_path / "out"
    out.mkdir()
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    target = GgufTarget(precision="f16")
    built.build_plain(target, model, base, out, tmp_path / "scratch")
    opened = gguf_file.load(out, 1)
    chooser = random.Random(0)
    parts = [
        "a",
        "it",
        "'s",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "42",
        "4242",
        "é",
        "!",
        "...",
        "{",
        "中",
    ]
    for _ in range(200):
        text = "".join(chooser.choices(parts, k=8))
        assert opened.encode(text) == own.encode(text, add_special_tokens=False).ids, repr(text)


@pytest.mark.parametrize("precision", ["f16", "q4_k_m"])
def test_exporting_twice_gives_equal_bytes_and_names_no_place(
    base: Path, adapter: Path, made: dict[str, Made], tmp_path: Path, precision: str
) -> None:
    out, info = made[precision]
    again, again_info = _export(base, adapter, tmp_path / "a" / "longer" / "p", precision)
    hashes = {path.name: sha256_file(path) for path in out.iterdir()}
    assert hashes == {path.name: sha256_file(path) for path in again.iterdir()}
    assert info == again_info
    for path in out.iterdir():
        assert str(base).encode() not in path.read_bytes(), path.name
    assert list((out.parent / "scratch").iterdir()) == []


def _family(family: str, base: Path, folder: Path, **changes: Any) -> Path:
    own = transformers.AutoTokenizer.from_pretrained(base)
    make_family(family, folder, own, **{"sliding_window": None, **changes})
    shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")
    return folder


LONG = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PROVED = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama with llama3's frequencies": ("Llama", {"rope_parameters": LONG}),
    "mistral": ("Mistral", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
}


@pytest.mark.parametrize("family", PROVED)
def test_every_family_of_the_table_is_computed_as_torch_does(
    base: Path, tmp_path: Path, family: str
) -> None:
    name, changes = PROVED[family]
    folder = _family(name, base, tmp_path / "family", **changes)
    _, info = _export(folder, folder, tmp_path / "made", "f16")
    assert info["parity"]["mean_kl"] < 1e-4


def test_the_table_names_what_is_proved() -> None:
    assert set(ARCHITECTURES) == {family.split()[0] for family in PROVED}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sliding_window": 4}, "attention in a window of 4"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "linear"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = _family("Mistral", base, tmp_path / "family", **changes)
    with pytest.raises(StageFailedError, match=said):
        _export(folder, folder, tmp_path / "made", "f16")


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = tmp_path / "base"
    shutil.copytree(base, other)
    told = json.loads((other / "tokenizer.json").read_text("utf-8"))
    told["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    (other / "tokenizer.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(StageFailedError, match=r"no known name in llama\.cpp"):
        _export(other, adapter, tmp_path / "made", "f16")


def test_a_tokenizer_that_gives_other_ids_is_refused(base: Path, made: dict[str, Made]) -> None:
    rows = make_rows(base)
    rows[0].prompt_ids[0] += 1
    with pytest.raises(StageFailedError, match="gguf: its tokenizer differs from training at"):
        require_tokenizer(gguf_file.load(made["f16"][0], 1), rows, "gguf")


def test_the_modelfile_asks_in_the_recipes_own_words(made: dict[str, Made]) -> None:
    lines = (made["f16"][0] / "Modelfile").read_text("utf-8")
    assert lines.startswith("FROM ./model.gguf\n")
    words = "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"
    assert f'TEMPLATE """{words}"""\n' in lines
    assert 'PARAMETER stop "<|im_end|>"\n' in lines
    assert "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n" in lines


def test_a_damaged_or_missing_file_is_corrupt(made: dict[str, Made], tmp_path: Path) -> None:
    for number, damage in enumerate((b"", b"GGUF", None)):
        folder = tmp_path / str(number)
        shutil.copytree(made["q8_0"][0], folder)
        file = folder / "model.gguf"
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage is None else damage)
        with pytest.raises(CorruptError, match=r"llama\.cpp cannot open it"):
            gguf_file.load(folder, 1)
    with pytest.raises(BadRecipeError, match="no adapters"):
        gguf_file.load(made["q8_0"][0], 1, adapter=tmp_path / "a")


def test_without_llama_cpp_the_package_is_named(
    made: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_library.library.cache_clear()
    monkeypatch.setattr(llama_library, "find_spec", lambda _: None)
    with pytest.raises(MissingError, match="xllamacpp") as found:
        gguf_file.load(made["f16"][0], 1)
    assert found.value.code == 69
    assert "slmcompile[gguf]" in found.value.mend
    monkeypatch.undo()
    llama_library.library.cache_clear()
