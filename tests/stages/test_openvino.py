"""Targets for OpenVINO: built from torch, answered by OpenVINO itself."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row
from slmcompile.export.export import export
from slmcompile.export.openvino_builder import build
from slmcompile.export.openvino_tokenizer import graphs, in_one
from slmcompile.inference.exported import open_exported
from slmcompile.inference.openvino_runtime import openvino, openvino_genai
from slmcompile.inference.torch_model import TorchModel
from slmcompile.models.merge import load_merged
from slmcompile.providers.openvino import (
    ARCHITECTURES,
    TOKENIZER,
    OpenVinoTarget,
    export_bytes,
    fault,
)
from slmcompile.recipe.schema import target_section
from tests.families import build as model_of
from tests.family_folders import architecture_of_folder
from tests.tiny_model import make_base, make_rows
from tests.tiny_tokenizer import make_tokenizer

# Looked for and not imported: the program has to be first, which keeps openvino from sending what
# it converts.
NEEDS = ("openvino", "openvino_tokenizers", "openvino_genai", "nncf")
pytestmark = pytest.mark.skipif(
    not all(map(find_spec, NEEDS)), reason="pip install 'slmcompile[openvino]'"
)

PRECISIONS = ("fp32", "fp16", "int8", "int4")
TEXTS = ("", "turn on the light", "  zwölf Ärzte — 12 µg", "日本 🙂", "a\n\n\tb", "<|im_end|>x")


def quiet_run(number: int) -> None:
    """Told how far it is."""


def exported(base: Path, adapter: Path, folder: Path, precision: str) -> dict[str, Any]:
    folder.mkdir()
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir()
    scratch.mkdir()
    prompt = folder / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    target = target_section({"execution_provider": "openvino", "precision": precision})
    return export(target, base, adapter, prompt, make_rows(base), out, scratch, Silent())


@pytest.fixture(scope="module")
def built(
    base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A folder and its facts, by precision."""
    root = tmp_path_factory.mktemp("built")
    infos = {each: exported(base, adapter, root / each, each) for each in PRECISIONS}
    return {each: (root / each / "out", info) for each, info in infos.items()}


@pytest.mark.parametrize(
    ("precision", "most"), [("fp32", 1e-6), ("fp16", 1e-4), ("int8", 0.01), ("int4", 0.6)]
)
def test_it_predicts_what_torch_predicts(built: Any, precision: str, most: float) -> None:
    _, info = built[precision]
    assert info["execution_provider"] == "openvino"
    assert info["parity"]["mean_kl"] < most


def test_the_fewer_bits_the_smaller(built: Any) -> None:
    sizes = [built[each][1]["weights_bytes"] for each in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_in_fp32_it_answers_and_scores_as_torch_does(base: Path, adapter: Path, built: Any) -> None:
    ours = open_exported("openvino", built["fp32"][0], 1)
    stops = ours.stops
    theirs = TorchModel(load_merged(base, adapter), stops)
    rows = make_rows(base)
    prompts = [row.prompt_ids for row in rows]
    expected = theirs.generate(prompts, 20, 4, quiet_run)
    assert ours.generate(prompts, 20, 4, quiet_run) == expected
    assert [list(ours.stream(each, 21))[:20] for each in prompts] == [a.ids for a in expected]
    for (ln_p, count), (wanted, tokens) in zip(
        ours.log_likelihood(rows), theirs.log_likelihood(rows), strict=True
    ):
        assert count == tokens
        assert ln_p == pytest.approx(wanted, abs=1e-3)
    assert ours.decode_speed(prompts[0], 4) > 0
    assert ours.ran == "verified"


def test_rows_that_stop_leave_the_others_as_they_are(base: Path, adapter: Path, built: Any) -> None:
    ours = open_exported("openvino", built["fp32"][0], 1)
    prompts = [row.prompt_ids for row in make_rows(base)]
    long = [answer.ids for answer in ours.generate(prompts, 20, 4, quiet_run)]
    # Stops that end rows at different places; what a row says before its own is the same.
    ours._stops = frozenset({long[0][3], long[1][7]})
    for whole, short in zip(long, ours.generate(prompts, 20, 4, quiet_run), strict=True):
        ends = next((i for i, token in enumerate(whole) if token in ours.stops), len(whole))
        assert short.ids == whole[:ends]


def test_an_answer_ends_with_the_context(base: Path, built: Any) -> None:
    ours = open_exported("openvino", built["fp32"][0], 1)
    prompt = (make_rows(base)[0].prompt_ids * 40)[: ours.context - 3]
    (answer,) = ours.generate([prompt], 20, 1, quiet_run)
    assert len(answer.ids) <= 3
    assert len(list(ours.stream(prompt, 20))) <= 3
    assert not list(ours.stream(prompt[:1] * ours.context, 20))


def test_the_folder_reads_and_writes_texts_by_its_own_tokenizer(base: Path, built: Any) -> None:
    ours = open_exported("openvino", built["int8"][0], 1)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == text
        pieces = ours.pieces()
        assert "".join(map(pieces, ids)) == text


def test_single_digits_are_split_from_white_space_as_in_training(
    base: Path, tmp_path: Path
) -> None:
    # One that puts a token before every text besides, which no prompt wants twice.
    told = json.loads(
        (make_tokenizer(tmp_path, adds_bos_and_eos=True) / "tokenizer.json").read_text("utf-8")
    )
    # Merges over two digits and over white space show where pieces end.
    vocabulary = told["model"]["vocab"]
    for left, right in (("4", "2"), ("Ċ", "Ċ"), ("Ġ", "Ġ")):
        vocabulary.setdefault(left + right, len(vocabulary))
        told["model"]["merges"].insert(0, [left, right])
    digits = {"type": "Digits", "individual_digits": True}
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, told["pre_tokenizer"]]}
    folder, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(base, folder)
    (folder / "tokenizer.json").write_text(json.dumps(told), "utf-8")
    trained = Tokenizer.from_str(json.dumps(told))
    out.mkdir()
    openvino().save_model(graphs(folder)[0], out / TOKENIZER[0])
    ours = openvino_genai().Tokenizer(str(out))
    chooser = random.Random(0)
    parts = ["a", "it", "'s", " ", "  ", "\n", "\n\n", "\t", "42", "7", "²", "é", "!", "...", "中"]
    for _ in range(400):
        text = "".join(chooser.choices(parts, k=8))
        read = ours.encode(text, add_special_tokens=False).input_ids
        assert read.data[0].tolist() == trained.encode(text, add_special_tokens=False).ids, text


def test_other_splitters_are_written_as_they_are(base: Path) -> None:
    told = json.loads((base / "tokenizer.json").read_text("utf-8"))["pre_tokenizer"]
    for each in (None, told, {"type": "Sequence", "pretokenizers": [told]}):
        assert in_one(each) == each


# In a process of its own: the pipeline (openvino-genai 2026.4) leaves its thread a stack for
# signals that is freed with it, and the next signal that Python handles ends the process.
PIPELINE = """
import json, sys
from slmcompile.inference.openvino_runtime import openvino_genai

# Its paged attention rounds keys and values otherwise than the graph that is measured.
as_measured = {"INFERENCE_PRECISION_HINT": "f32", "ATTENTION_BACKEND": "SDPA"}
pipeline = openvino_genai().LLMPipeline(sys.argv[1], "CPU", INFERENCE_NUM_THREADS=1, **as_measured)
tokenizer, said = pipeline.get_tokenizer(), []
for prompt in json.load(sys.stdin):
    read = tokenizer.encode(prompt, add_special_tokens=False).input_ids
    answer = pipeline.generate(read, max_new_tokens=12, do_sample=False).tokens[0]
    said.append([read.data[0].tolist(), list(answer)])
print(json.dumps(said))
"""


def test_the_vendors_own_pipeline_opens_it_and_answers_the_same(base: Path, built: Any) -> None:
    folder, _ = built["int8"]
    ours, rows = open_exported("openvino", folder, 1), make_rows(base)
    done = subprocess.run(
        [sys.executable, "-c", PIPELINE, str(folder)],
        input=json.dumps([row.prompt for row in rows]),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row, (read, answer) in zip(rows, json.loads(done.stdout), strict=True):
        assert read == row.prompt_ids
        (expected,) = ours.generate([row.prompt_ids], 12, 1, quiet_run)
        assert answer[: len(expected.ids)] == expected.ids


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_two_exports_are_equal_and_name_no_place(
    base: Path, adapter: Path, built: Any, tmp_path: Path, precision: str
) -> None:
    exported(base, adapter, tmp_path / "again", precision)
    first, second = built[precision][0], tmp_path / "again" / "out"
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        data = (first / name).read_bytes()
        assert data == (second / name).read_bytes(), name
        assert str(first.parents[2]).encode() not in data, name


def test_a_folder_that_was_moved_opens(base: Path, built: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(built["int8"][0], tmp_path / "else where" / "ö")
    prompt = make_rows(base)[0].prompt_ids
    answers = [
        open_exported("openvino", each, 1).generate([prompt], 8, 1, quiet_run)
        for each in (folder, built["int8"][0])
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "name",
    ["openvino_model.xml", "openvino_model.bin", *TOKENIZER, "config.json",
     "generation_config.json", "tokenizer.json"],
)  # fmt: skip
@pytest.mark.parametrize("cut", [True, False])
def test_what_is_damaged_or_missing_is_said(
    built: Any, tmp_path: Path, name: str, cut: bool
) -> None:
    folder = shutil.copytree(built["int8"][0], tmp_path / "out")
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    if cut:
        (folder / name).write_bytes(data[: len(data) // 3])
    with pytest.raises(CorruptError, match="openvino cannot open it"):
        open_exported("openvino", folder, 1)


def test_it_has_no_adapter_beside_it(built: Any, tmp_path: Path) -> None:
    with pytest.raises(BadRecipeError, match="merged"):
        open_exported("openvino", built["int8"][0], 1, adapter=tmp_path / "a")


def test_where_openvino_is_missing_that_is_said(
    built: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match="openvino") as caught:
        open_exported("openvino", built["int8"][0], 1)
    assert "slmcompile[openvino]" in caught.value.mend
    with pytest.raises(MissingError):
        build(OpenVinoTarget(precision="int8"), base, tmp_path, tmp_path)


def test_nothing_is_sent_and_no_id_is_left(base: Path, tmp_path: Path) -> None:
    code = (
        "import shutil, sys; from pathlib import Path\n"
        "from slmcompile.export.openvino_builder import build\n"
        "from slmcompile.inference.openvino_model import load\n"
        "from slmcompile.providers.openvino import OpenVinoTarget\n"
        "build(OpenVinoTarget(precision='int8'), Path(sys.argv[1]), Path(sys.argv[2]), Path('.'))\n"
        "shutil.copy(sys.argv[1] + '/tokenizer.json', sys.argv[2])\n"
        "assert load(Path(sys.argv[2]), 1).encode('a')\n"
        "assert not sys.modules.get('openvino_telemetry')\n"
    )
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", code, str(base), str(out)], check=True, env=environment, cwd=tmp_path
    )
    assert (out / "openvino_model.xml").is_file()
    assert not (home / "intel").exists()


def rows_of(count: int) -> list[Row]:
    """Rows of several lengths; longer than the windows of the families that have one."""
    torch.manual_seed(5)
    found = []
    for number in range(count):
        ids = torch.randint(3, 97, (6 + 5 * number,)).tolist()
        labels = [IGNORED] * 4 + ids[4:]
        found.append(Row(number, "", "", "", ids[:4], ids, labels))
    return found


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_every_family_answers_as_in_torch(base: Path, tmp_path: Path, family: str) -> None:
    model = model_of(family, intermediate_size=64).eval()
    assert type(model).__name__ == ARCHITECTURES[family]
    saved, out = tmp_path / "saved", tmp_path / "out"
    out.mkdir()
    model.save_pretrained(saved)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, saved / name)
        shutil.copyfile(base / name, out / name)
    settings = json.dumps({"eos_token_id": [1]})
    (saved / "generation_config.json").write_text(settings, encoding="utf-8")
    build(OpenVinoTarget(precision="fp32"), saved, out, tmp_path)
    ours, theirs = open_exported("openvino", out, 1), TorchModel(model, frozenset({1}))
    rows = rows_of(5)
    prompts = [row.input_ids for row in rows]
    # Of several lengths together, so that padding, windows and positions are all in it.
    assert ours.generate(prompts, 8, 8, quiet_run) == theirs.generate(prompts, 8, 1, quiet_run)
    # Some classes of transformers make a tokenizer of their own, whatever the file says.
    trained = Tokenizer.from_file(str(base / "tokenizer.json"))
    for text in TEXTS:
        assert ours.encode(text) == trained.encode(text, add_special_tokens=False).ids
    found, wanted = ours.log_likelihood(rows), theirs.log_likelihood(rows)
    assert [ln for ln, _ in found] == pytest.approx([ln for ln, _ in wanted], abs=1e-3)


SIZES: dict[str, dict[str, int]] = {
    "tiny": {},
    "larger": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4},
}


@pytest.mark.parametrize("size", sorted(SIZES))
def test_the_weights_are_as_large_as_predicted(tmp_path: Path, size: str) -> None:
    base = make_base(tmp_path, **SIZES[size])
    model = architecture_of_folder(base)
    for precision in PRECISIONS:
        out = tmp_path / precision
        out.mkdir()
        target = OpenVinoTarget(precision=precision)  # type: ignore[arg-type]
        build(target, base, out, tmp_path)
        found = sum((out / f"openvino_model.{end}").stat().st_size for end in ("bin", "xml"))
        predicted = export_bytes(target, model)
        assert 0.9 * predicted <= found <= 1.1 * predicted, (precision, found, predicted)


def test_what_cannot_be_built_is_known_before(base: Path) -> None:
    model = architecture_of_folder(base)
    assert fault(OpenVinoTarget(precision="int4"), model) is None
    found = fault(OpenVinoTarget(precision="int4", int4_group_size=128), model)
    assert found is not None
    assert found[0] == "int4_group_size"


def test_a_model_that_it_cannot_have_is_said(base: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    shutil.copytree(base, wide)
    out = tmp_path / "out"
    out.mkdir()
    target = OpenVinoTarget(precision="int4", int4_group_size=128)
    with pytest.raises(StageFailedError, match="openvino cannot export this model"):
        build(target, wide, out, tmp_path)


def test_a_tokenizer_that_it_cannot_have_is_said(base: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(base, other)
    out.mkdir()
    told = json.loads((other / "tokenizer.json").read_text("utf-8"))
    told["pre_tokenizer"] = {"type": "CharDelimiterSplit", "delimiter": "x"}
    (other / "tokenizer.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(StageFailedError, match=r"export this model: .*CharDelimiterSplit"):
        build(OpenVinoTarget(precision="fp32"), other, out, tmp_path)
