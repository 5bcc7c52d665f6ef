"""What an exported folder promises: the same numbers, the same tokens, the same bytes, anywhere."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadDataError, CorruptError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.export.export import export
from slmcompile.export.graphs import graphs
from slmcompile.export.parity import Reference, measure, require_float, require_tokenizer
from slmcompile.files.artifact import sha256_file
from slmcompile.inference import onnx_model
from slmcompile.inference.streamed_answer import Answer
from slmcompile.models.merge import load_merged
from slmcompile.models.tokenizer_files import portable
from slmcompile.providers.cpu import CpuTarget
from tests.tiny_model import make_rows

torch = pytest.importorskip("torch")


def _export(base: Path, adapter: Path, folder: Path, **target: Any) -> tuple[Path, dict[str, Any]]:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    prompt = folder / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    rows = make_rows(base)
    info = export(CpuTarget(**target), base, adapter, prompt, rows, out, scratch, Silent())
    return out, info


@pytest.fixture(scope="module")
def fp32(
    base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    return _export(base, adapter, tmp_path_factory.mktemp("fp32"), precision="fp32")


def test_fp32_logits_are_torchs(fp32: tuple[Path, dict[str, Any]]) -> None:
    parity = fp32[1]["parity"]
    assert parity["max_abs_logit_diff"] < 1e-3
    assert parity["top1_agreement"] == 1.0
    assert parity["mean_kl"] < 1e-6
    assert parity["rows"] == 11


def test_prompts_are_encoded_behind_the_prefix_that_training_puts_before_them(
    fp32: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(fp32[0], folder)
    plain = onnx_model.load(folder, 1)
    (folder / "prompt.json").write_text('{"prefix_ids": [1]}', encoding="utf-8")
    exported = onnx_model.load(folder, 1)
    assert exported.encode("turn on") == [1, *plain.encode("turn on")]
    assert exported.encode("<|im_start|>turn on") == plain.encode("<|im_start|>turn on")


def test_the_adapter_is_in_the_export(
    base: Path, adapter: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    exported = onnx_model.load(fp32[0], 1)
    untrained = load_merged(base, None)
    figures = measure(Reference(untrained, make_rows(base)), exported, lambda _: None)
    assert figures["max_abs_logit_diff"] > 0.1


@pytest.mark.parametrize(
    ("target", "mean_kl"),
    [
        ({"precision": "int8"}, 0.01),
        ({"precision": "int4"}, 0.5),
        ({"precision": "int4", "int4_algo_config": "rtn", "int4_is_symmetric": False}, 0.5),
        ({"precision": "int4", "int4_algo_config": "k_quant_mixed", "int4_block_size": 16}, 0.5),
    ],
)
def test_quantised_models_stay_close(
    base: Path, adapter: Path, tmp_path: Path, target: dict[str, Any], mean_kl: float
) -> None:
    _, info = _export(base, adapter, tmp_path, **target)
    assert 0 < info["parity"]["mean_kl"] < mean_kl
    assert info["parity"]["max_abs_logit_diff"] > 0


def test_the_options_of_int4_reach_the_weights(base: Path, adapter: Path, tmp_path: Path) -> None:
    default, _ = _export(base, adapter, tmp_path / "a", precision="int4")
    others: list[dict[str, Any]] = [
        {"int4_block_size": 16},
        {"int4_is_symmetric": False},
        {"int4_algo_config": "k_quant"},
    ]
    hashes = {sha256_file(default / "model.onnx.data")}
    for number, options in enumerate(others):
        out, _ = _export(base, adapter, tmp_path / str(number), precision="int4", **options)
        hashes.add(sha256_file(out / "model.onnx.data"))
    assert len(hashes) == 1 + len(others)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_exporting_twice_gives_equal_bytes_and_facts(
    base: Path, adapter: Path, tmp_path: Path, precision: str
) -> None:
    first, first_info = _export(base, adapter, tmp_path / "first", precision=precision)
    again, again_info = _export(base, adapter, tmp_path / "a" / "longer" / "p", precision=precision)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert {n: sha256_file(first / n) for n in names} == {n: sha256_file(again / n) for n in names}
    assert first_info == again_info


def test_no_file_names_a_place_on_this_machine(
    base: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    for path in fp32[0].iterdir():
        content = path.read_bytes()
        assert str(base).encode() not in content, path.name
        assert str(fp32[0].parent).encode() not in content, path.name


def test_a_moved_folder_opens_and_answers_alike(
    base: Path, fp32: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    prompt = make_rows(base)[0].prompt
    here = "".join(Answer(onnx_model.load(fp32[0], 1), prompt, 12))
    moved = tmp_path / "elsewhere"
    shutil.copytree(fp32[0], moved)
    assert "".join(Answer(onnx_model.load(moved, 1), prompt, 12)) == here
    assert here


def test_the_folder_says_how_it_stops_and_never_samples(fp32: tuple[Path, dict[str, Any]]) -> None:
    config = json.loads((fp32[0] / "genai_config.json").read_text("utf-8"))
    assert config["model"]["eos_token_id"] == 2
    assert config["search"]["do_sample"] is False
    assert config["search"]["repetition_penalty"] == 1.0
    assert json.loads((fp32[0] / "prompt.json").read_text("utf-8")) == {"template": "x"}


def test_nothing_is_left_in_scratch_and_sizes_are_the_files(
    fp32: tuple[Path, dict[str, Any]],
) -> None:
    out, info = fp32
    assert list((out.parent / "scratch").iterdir()) == []
    assert info["size_bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert 0 < info["weights_bytes"] < info["size_bytes"]


def test_what_the_graph_is_made_of_is_counted(
    base: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    layers = load_merged(base, None).config.num_hidden_layers
    (name, told), *others = graphs(fp32[0]).items()
    assert (name, others) == ("model.onnx", [])
    assert told["operators"]["com.microsoft"]["GroupQueryAttention"] == layers
    assert told["operators"]["ai.onnx"]["MatMul"] >= 5 * layers
    assert told["opset"]["com.microsoft"] == 1
    assert told["opset"]["ai.onnx"] >= 18
    assert fp32[1]["adapters"] == "merged"


def test_an_fp32_export_that_differs_is_refused() -> None:
    with pytest.raises(StageFailedError, match=r"agrees with torch on 98\.0%"):
        require_float({"top1_agreement": 0.98}, "cpu fp32")


def test_what_the_runtime_cannot_compute_is_told_in_a_line(
    fp32: tuple[Path, dict[str, Any]], base: Path, adapter: Path
) -> None:
    model = onnx_model.load(fp32[0], 1)

    class Beyond:
        """Asks it for tokens that it has not."""

        def logits(self, ids: Any) -> Any:
            return model.logits([[token + 10**6 for token in row] for row in ids])

    reference = Reference(load_merged(base, adapter), make_rows(base))
    with pytest.raises(StageFailedError, match=r"^cpu fp32: its runtime cannot compute") as caught:
        measure(reference, Beyond(), lambda _: None, "cpu fp32")  # type: ignore[arg-type]
    assert "\n" not in caught.value.what
    assert "another target" in (caught.value.mend or "")


def test_a_tokenizer_that_differs_is_refused(
    base: Path, fp32: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(fp32[0], broken)
    tokenizer = json.loads((broken / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["merges"] = []
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(StageFailedError, match="tokenizer differs from training at token"):
        require_tokenizer(onnx_model.load(broken, 1), make_rows(base), "cpu fp32")


def test_an_export_without_rows_to_compare_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadDataError):
        export(
            CpuTarget(precision="fp32"), base, adapter, tmp_path, [], tmp_path, tmp_path, Silent()
        )


def test_an_incomplete_adapter_is_corrupt(base: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"adapter_model\.safetensors is missing"):
        load_merged(base, tmp_path / "adapter")


def test_individual_digits_survive_in_both_libraries(
    base: Path, fp32: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """onnxruntime-genai ignores ``Digits``; the rewritten steps must give the original's ids."""
    from tokenizers import Tokenizer

    folder = tmp_path / "digits"
    shutil.copytree(fp32[0], folder)
    content = json.loads((base / "tokenizer.json").read_text("utf-8"))
    # Merges over two digits and over two newlines show which pre-tokenizer is at work.
    vocabulary = content["model"]["vocab"]
    for left, right in (("4", "2"), ("Ċ", "Ċ"), ("Ġ", "Ġ")):
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
        content["model"]["merges"].insert(0, [left, right])
    steps = content["pre_tokenizer"]
    digits = {"type": "Digits", "individual_digits": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, steps]}
    original = Tokenizer.from_str(json.dumps(content))
    content["pre_tokenizer"] = portable(content["pre_tokenizer"])
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    rewritten = Tokenizer.from_str(json.dumps(content))
    exported = onnx_model.load(folder, 1)
    chooser = random.Random(0)
    parts = ["a", "it", "'s", " ", "  ", "\n", "\n\n", "\t", "42", "7", "é", "!", "...", "{", "中"]
    for _ in range(300):
        text = "".join(chooser.choices(parts, k=8))
        assert rewritten.encode(text).ids == original.encode(text).ids, text
        assert exported.encode(text) == original.encode(text).ids, text


def test_other_pre_tokenizers_are_left_alone() -> None:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    assert portable(byte_level) == byte_level
    assert portable(None) is None
    grouped = {"type": "Digits", "individual_digits": False}
    sequence = {"type": "Sequence", "pretokenizers": [grouped, byte_level]}
    assert portable(sequence) == sequence
