"""Targets for Qualcomm's neural processor: compiled by QNN, answered by simulator and CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row
from slmcompile.export.export import export
from slmcompile.export.qnn_builder import build
from slmcompile.inference.exported import open_exported
from slmcompile.inference.qnn_graphs import open_graphs
from slmcompile.inference.runs_here import runs_here
from slmcompile.inference.torch_model import TorchModel
from slmcompile.models.merge import load_merged
from slmcompile.plans import installed
from slmcompile.providers.qnn import ARCHITECTURES, QnnTarget, export_bytes
from slmcompile.report.snippets import Ask, qnn
from tests.families import build as model_of
from tests.family_folders import architecture_of_folder
from tests.tiny_model import make_base, make_rows

pytestmark = pytest.mark.skipif(
    find_spec("onnxruntime_qnn") is None, reason="pip install 'slmcompile[qnn]'"
)

Made = tuple[Path, dict[str, Any]]
TEXTS = ("", "turn on the light", "  zwölf Ärzte — 12 µg", "日本 🙂", "a\n\n\tb", "<|im_end|>x")


def quiet_run(number: int) -> None:
    """Told how far it is."""


def target(**keys: Any) -> QnnTarget:
    return QnnTarget(**{"context_length": 96, "sequence_length": 16, **keys})


def exported(base: Path, adapter: Path, folder: Path, **keys: Any) -> Made:
    out, scratch, prompt = folder / "out", folder / "scratch", folder / "prompt.json"
    out.mkdir(parents=True)
    scratch.mkdir()
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    rows = make_rows(base)
    told = target(**keys)
    return out, export(told, base, adapter, prompt, rows, out, scratch, Silent(), rows)


@pytest.fixture(scope="module")
def made(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported(base, adapter, tmp_path_factory.mktemp("made"), simulated_rows=3)


def test_it_predicts_what_torch_predicts(made: Made) -> None:
    _, info = made
    assert (info["execution_provider"], info["precision"]) == ("qnn", "w8a16")
    assert info["parity"]["mean_kl"] < 0.005
    assert info["parity"]["top1_agreement"] > 0.9


def test_the_simulator_computes_the_graph_and_takes_all_of_it(made: Made) -> None:
    _, info = made
    found = info["qnn"]
    assert found["htp_arch"] == 75
    assert found["sdk"].startswith("v2.")
    for graph in ("prefill", "decode"):
        ((provider, nodes),) = found["nodes"][graph].items()
        assert provider == "QNNExecutionProvider"
        # q, k, v, o, gate, up, down, and both products of attention, of two layers; and the head.
        assert nodes["MatMul"] == 2 * 9 + 1
        assert nodes["RMSNormalization"] == 2 * 2 + 1
    assert found["simulator"]["rows"] == 3
    assert found["simulator"]["mean_kl"] < 1e-4
    assert found["simulator"]["top1_agreement"] > 0.95


def test_the_simulator_answers_as_the_cpu_does(base: Path, made: Made) -> None:
    by_cpu = open_graphs(made[0], 1, answered_by="cpu")
    by_simulator = open_graphs(made[0], 1, answered_by="simulator")
    assert (by_cpu.ran, by_simulator.ran) == ("emulated", "simulated")
    for row in make_rows(base)[:3]:
        ours, theirs = by_simulator.logits(row.input_ids), by_cpu.logits(row.input_ids)
        assert abs(ours - theirs).mean() < 0.01
        answer = list(by_simulator.steps(row.prompt_ids, 8))
        # Where rounding turns a near tie the answers part.
        expected = list(by_cpu.steps(row.prompt_ids, 8))
        same = next((i for i, (a, b) in enumerate(zip(answer, expected, strict=True)) if a != b), 8)
        if same < 8:
            scores = by_cpu.logits([*row.prompt_ids, *expected[:same]])[-1]
            assert scores.max() - scores[answer[same]] < 0.3


def test_a_simulator_that_has_answered_is_not_the_processor(base: Path, made: Made) -> None:
    graphs = open_graphs(made[0], 1, answered_by="simulator")
    list(graphs.steps(make_rows(base)[0].prompt_ids, 1))
    assert not runs_here("qnn")


def test_what_the_folder_says_answers(base: Path, made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "else where" / "ö")
    told = json.loads((folder / "qnn.json").read_text(encoding="utf-8"))
    (folder / "qnn.json").write_text(json.dumps({**told, "answered_by": "simulator"}))
    ours = open_exported("qnn", folder, 1)
    assert ours.ran == "simulated"
    (answer,) = ours.generate([make_rows(base)[0].prompt_ids], 4, 1, quiet_run)
    assert len(answer.ids) == 4


def test_one_token_at_a_time_is_as_many_at_once(base: Path, made: Made) -> None:
    graphs = open_graphs(made[0], 1, answered_by="cpu")
    (row, *_) = make_rows(base)
    together = graphs.logits(row.input_ids)
    for length in (1, 2, 16, 17, 18, len(row.input_ids)):
        apart = graphs.logits_of_both(row.input_ids[:length])
        assert abs(apart - together[:length]).mean() < 0.005, length


def test_it_answers_and_scores_nearly_as_torch_does(base: Path, adapter: Path, made: Made) -> None:
    ours = open_exported("qnn", made[0], 1)
    assert ours.ran == "emulated"
    theirs = TorchModel(load_merged(base, adapter), ours.stops)
    rows = make_rows(base)
    found, wanted = ours.log_likelihood(rows), theirs.log_likelihood(rows)
    for (ln_p, count), (expected, tokens) in zip(found, wanted, strict=True):
        assert count == tokens
        assert ln_p / count == pytest.approx(expected / tokens, abs=0.05)
    prompts = [row.prompt_ids for row in rows]
    answers = ours.generate(prompts, 8, 4, quiet_run)
    assert [list(ours.stream(each, 9))[:8] for each in prompts] == [a.ids for a in answers]
    expected_first = [a.ids[:1] for a in theirs.generate(prompts, 8, 4, quiet_run)]
    assert sum(a.ids[:1] == b for a, b in zip(answers, expected_first, strict=True)) >= 9


def test_an_answer_ends_with_the_context(base: Path, made: Made) -> None:
    ours = open_exported("qnn", made[0], 1)
    assert ours.context == 96
    prompt = (make_rows(base)[0].prompt_ids * 40)[: ours.context - 3]
    (answer,) = ours.generate([prompt], 20, 1, quiet_run)
    assert len(answer.ids) <= 3
    assert len(list(ours.stream(prompt, 20))) <= 3
    assert not list(ours.stream(prompt[:1] * ours.context, 20))


def test_the_folder_reads_and_writes_texts_by_its_own_tokenizer(base: Path, made: Made) -> None:
    from tokenizers import Tokenizer

    ours = open_exported("qnn", made[0], 1)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == text
        pieces = ours.pieces()
        assert "".join(map(pieces, ids)) == text


def test_two_exports_are_equal_and_name_no_place(
    base: Path, adapter: Path, made: Made, tmp_path: Path
) -> None:
    again, info = exported(base, adapter, tmp_path / "a" / "deeper", simulated_rows=3)
    assert info == made[1]
    names = sorted(path.relative_to(made[0]) for path in made[0].rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        data = (made[0] / name).read_bytes()
        assert data == (again / name).read_bytes(), name
        assert str(made[0].parents[1]).encode() not in data, name


@pytest.mark.parametrize("answered_by", ["cpu", "simulator"])
@pytest.mark.parametrize("cut", [True, False])
def test_what_is_damaged_or_missing_is_said(
    base: Path, made: Made, tmp_path: Path, answered_by: str, cut: bool
) -> None:
    names = {
        "cpu": ["qdq/decode.onnx", "qdq/weights.data"],
        "simulator": ["decode.onnx", "prefill_qnn.bin"],
    }
    for name in ["qnn.json", *names[answered_by]]:
        folder = shutil.copytree(made[0], tmp_path / f"{name.replace('/', '-')}")
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        if cut:
            (folder / name).write_bytes(data[: len(data) // 3])
        prompt = make_rows(base)[0].prompt_ids
        with pytest.raises(CorruptError, match="cannot"):
            list(open_graphs(folder, 1, answered_by=answered_by).steps(prompt, 3))


def test_a_damaged_tokenizer_is_said(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "out")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptError, match=r"tokenizer\.json"):
        open_exported("qnn", folder, 1)


def test_it_has_no_adapter_beside_it(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BadRecipeError, match="merged"):
        open_exported("qnn", made[0], 1, adapter=tmp_path / "a")


def test_where_the_package_is_missing_that_is_said(
    base: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(MissingError, match="onnxruntime-qnn") as caught:
        open_graphs(made[0], 1, answered_by="simulator")
    assert "slmcompile[qnn]" in caught.value.mend
    assert open_graphs(made[0], 1, answered_by="cpu").ran == "emulated"

    def absent(name: str) -> Any:
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(installed, "distribution", absent)
    installed._version.cache_clear()
    with pytest.raises(MissingError) as caught:
        build(target(), base, tmp_path, tmp_path, make_rows(base))
    installed._version.cache_clear()
    assert caught.value.code == 69


def test_what_the_processor_does_not_take_is_said_and_not_put_elsewhere(
    base: Path, tmp_path: Path
) -> None:
    # An older generation multiplies no two values of 16 bits; it is no choice of a recipe.
    old = target().model_copy(update={"htp_arch": 68})
    with pytest.raises(StageFailedError, match=r"HTP v68 .*CPUExecutionProvider.*MatMul \(\d+\)"):
        build(old, base, tmp_path, tmp_path, make_rows(base))


@pytest.mark.parametrize("arch", [73, 79, 81])
def test_other_generations_take_it_too(base: Path, tmp_path: Path, arch: int) -> None:
    facts = build(target(htp_arch=arch), base, tmp_path, tmp_path, make_rows(base))["qnn"]
    assert facts["htp_arch"] == arch
    assert facts["simulator"]["mean_kl"] < 1e-4


FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {"tie_word_embeddings": True},
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 0]},
}
"""What of each is unlike the others."""


def saved(family: str, folder: Path) -> Any:
    """A tiny model whose norms and biases do something, saved."""
    model = model_of(family, intermediate_size=64, **FAMILIES[family]).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    settings = json.dumps({"eos_token_id": [1]})
    (folder / "generation_config.json").write_text(settings, encoding="utf-8")
    return model


def rows_of(count: int) -> list[Row]:
    torch.manual_seed(5)
    found = []
    for number in range(count):
        ids = torch.randint(3, 97, (10 + 9 * number,)).tolist()
        found.append(Row(number, "", "", "", ids[:4], ids, [IGNORED] * 4 + ids[4:]))
    return found


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_every_family_is_computed_as_in_torch(tmp_path: Path, family: str) -> None:
    model = saved(family, tmp_path / "saved")
    assert type(model).__name__ == ARCHITECTURES[family]
    out, rows = tmp_path / "out", rows_of(5)
    out.mkdir()
    small = target(context_length=48, sequence_length=8, simulated_rows=2)
    found = build(small, tmp_path / "saved", out, tmp_path, rows)["qnn"]
    assert found["simulator"]["mean_kl"] < 1e-3
    graphs = open_graphs(out, 1, answered_by="cpu")
    for row in rows[:4]:
        ids = row.input_ids
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        given = torch.from_numpy(graphs.logits_of_both(ids)).log_softmax(-1)
        assert float((expected.exp() * (expected - given)).sum(-1).mean()) < 0.02


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_unrounded_its_layers_are_torchs(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import onnx

    from slmcompile.export import qnn_net
    from slmcompile.export.qnn_layers import HIDDEN, Layers, SavedWeights, shape_of

    def stored(net: Any, name: str, make: Any, *, turned: bool) -> str:
        array = make().T if turned else make()
        (tensor,) = net._weights.tensors([name], lambda: [array.astype(np.float32)])
        net._constants[name] = tensor
        return name

    matrix, table = qnn_net.Net.matrix.__name__, qnn_net.Net.table.__name__
    monkeypatch.setattr(qnn_net.Net, matrix, lambda n, a, m: stored(n, a, m, turned=True))
    monkeypatch.setattr(qnn_net.Net, table, lambda n, a, m: stored(n, a, m, turned=False))
    model = saved(family, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    shape = replace(shape_of(config, 24, 20), new=20)
    file = qnn_net.WeightFile(tmp_path)
    net = qnn_net.Net(file, None)
    Layers(net, SavedWeights(tmp_path / "saved"), config, shape).write()
    file.close()
    onnx.save(net.model(), tmp_path / "exact.onnx")
    import onnxruntime as ort

    session = ort.InferenceSession(tmp_path / "exact.onnx", providers=["CPUExecutionProvider"])
    ids = [*rows_of(2)[1].input_ids, 5]
    mask = np.full((1, 1, 20, 24), HIDDEN, np.float32)
    mask[..., 4:][:, :, np.tri(20, dtype=bool)] = 0.0
    nothing = np.zeros((1, shape.key_heads, 4, shape.head), np.float32)
    past = {f"past.{part}.{n}": nothing for n in range(2) for part in ("key", "value")}
    given = {
        "input_ids": np.array([ids], np.int32),
        "position_ids": np.arange(20, dtype=np.int32),
        "mask": mask,
    }
    (found,) = session.run(["logits"], {**given, **past})
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits.numpy()
    assert abs(found - expected).max() < 1e-4


def test_the_weights_are_as_large_as_predicted(tmp_path: Path) -> None:
    base = make_base(tmp_path, hidden_size=256, intermediate_size=768, num_hidden_layers=4)
    out = tmp_path / "out"
    out.mkdir()
    build(target(simulated_rows=0), base, out, tmp_path, make_rows(base))
    ends = {".onnx", ".bin", ".data"}
    found = sum(path.stat().st_size for path in out.rglob("*") if path.suffix in ends)
    predicted = export_bytes(target(), architecture_of_folder(base))
    assert 0.9 * predicted <= found <= 1.1 * predicted, (found, predicted)


def test_the_cards_program_runs_on_the_simulator(base: Path, made: Made, tmp_path: Path) -> None:
    row = make_rows(base)[2]
    prompt = {"text": "{text}", "columns": ["text"]}
    ask = Ask(prompt, {"text": row.prompt}, row.prompt, str(made[0]), "", "m", 6)
    ran = subprocess.run(
        [sys.executable, "-c", qnn(ask).text], capture_output=True, text=True,
        cwd=tmp_path,
    )  # fmt: skip
    graphs = open_graphs(made[0], 1, answered_by="simulator")
    ours = open_exported("qnn", made[0], 1)
    expected = ours.decode(list(graphs.steps(row.prompt_ids, 6)))
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.rstrip("\n").endswith(expected)
