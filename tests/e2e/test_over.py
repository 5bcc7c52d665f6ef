"""Adapters trained over the int4 base that they ship beside, from a recipe to answers.

The tests of this module go through one project in order, as a person would.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from slmcompile.files.artifact import sha256_file
from tests.projects import commit, make_repository, slmcompile
from tests.workplace import Workplace

GROUP = """
defaults: [{/data: tiny-commands}, {/eval: structured}]
eval: {max_new_tokens: 8, base_model: false, baselines: false}
"""
RECIPE = """
defaults:
  - model: tiny-llama
  - train: tiny
%s
  - target: [cpu-int4]
  - track: none
  - _self_
train: {over: cpu-int4, num_train_epochs: 3, learning_rate: 1e-2}
adapters:
%s
  two: {train: {lora: {r: 4, target_modules: [q_proj, v_proj, down_proj]}}, data: {seed: 3}}
gates:
  - {adapter: one, artifact: cpu-int4, metric: exact_match, min: 0.8}
"""
EXPORT = "outputs/duo/export-cpu-int4"


def write(root: Path, *members: str) -> None:
    listed = "\n".join(f"  - adapter@adapters.{name}: commands" for name in members)
    third = "  three: {data: {seed: 9}}" if "three" in members else ""
    (root / "recipes/duo.yaml").write_text(RECIPE % (listed, third), encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    (root / "conf/adapter").mkdir(exist_ok=True)
    (root / "conf/adapter/commands.yaml").write_text(GROUP, encoding="utf-8")
    write(root, "one", "two")
    commit(root, "a recipe with two adapters over an int4 base")
    return Workplace(root, "duo")


def held(work: Workplace) -> Path:
    (folder,) = work.root.glob("outputs/quantize-cpu-int4-*")
    return folder


def members(work: Workplace, artifact: str) -> dict[str, dict[str, float]]:
    path = work.root / f"pipelines/duo/metrics/{artifact}.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["members"]
    return found


def test_what_ships_is_what_was_trained(work: Workplace) -> None:
    work.run("run", "duo")
    assert {"quantize-cpu-int4", "train", "export-cpu-int4"} <= work.ran()
    torch, onnx = members(work, "torch"), members(work, "cpu-int4")
    for name in ("one", "two"):
        assert torch[name]["exact_match"] >= 0.8
        assert onnx[name]["exact_match"] >= torch[name]["exact_match"] - 0.03
        assert onnx[name]["perplexity"] == pytest.approx(torch[name]["perplexity"], rel=0.05)
    # One base: the very bytes that were trained over.
    assert sha256_file(work.root / EXPORT / "model.onnx.data") == sha256_file(
        held(work) / "model.onnx.data"
    )
    manifest = json.loads((work.root / EXPORT / "manifest.json").read_text())
    for name in ("one", "two"):
        told = manifest["info"]["members"][name]
        assert told["parity"]["top1_agreement"] >= 0.95
        assert (told["task"], told["template"]["type"]) == ("classification", "text")
        assert {told["adapter"], told["prompt"]} <= manifest["files"].keys()
    for name in ("one", "two"):
        manifest = work.root / f"outputs/duo/train/adapters/{name}/manifest.json"
        over = json.loads((held(work) / "manifest.json").read_text())["fingerprint"]
        assert json.loads(manifest.read_text())["info"] == {"trained_over": over}


def test_people_ask_each_adapter_and_the_card_chooses_it(work: Workplace) -> None:
    asked = ("generate", "duo", "turn on the lamp", "--adapter")
    assert [slmcompile(work.root, *asked, name).stdout.strip() for name in ("one", "two")] == [
        "on", "on",
    ]  # fmt: skip
    card = (work.root / "outputs/duo/report/two/cards/cpu-int4/README.md").read_text()
    assert f"adapters.load('{EXPORT}/adapters/two.onnx_adapter', 'two')" in card
    assert "generate duo --adapter two" in card
    assert "over the base of cpu-int4" in card
    # Of the 2 adapters the folder's size is, and what rounding cost is in the quantised base's.
    report = (work.root / "outputs/duo/report/two/report.md").read_text()
    lost = json.loads((held(work) / "manifest.json").read_text())["info"]["relative_error"]
    for document in (card, report):
        assert "The size of cpu-int4 is of one folder with all 2 adapters" in document
        assert f"left its weights {lost:.1%} off" in document
    measured = json.loads((work.root / "outputs/duo/answer-torch--two/measured.json").read_text())
    (base,) = work.root.glob("outputs/base-*")
    parts = (base, held(work), work.root / "outputs/duo/train/adapters/two")
    files = [path for part in parts for path in part.rglob("*") if path.is_file()]
    assert measured["size_bytes"] == sum(path.stat().st_size for path in files)


def test_a_damaged_adapter_is_told_and_answers_nothing(work: Workplace, tmp_path: Path) -> None:
    path = work.root / EXPORT / "adapters/one.onnx_adapter"
    shutil.copyfile(path, tmp_path / "whole")
    path.parent.chmod(0o755)
    path.unlink()
    whole = (tmp_path / "whole").read_bytes()
    # Cut short, and with one bit of a weight turned.
    asked = ("generate", "duo", "turn on the lamp", "--adapter", "one")
    for damaged in (whole[:100], whole[:-9] + bytes([whole[-9] ^ 64]) + whole[-8:]):
        path.write_bytes(damaged)
        done = work.run(*asked, code=Exit.CORRUPT)
        assert "one.onnx_adapter: its bytes are not those that were written" in done.stderr
        assert not done.stdout
    # The other fits the graph as well, and would answer in this one's name.
    path.write_bytes(path.with_name("two.onnx_adapter").read_bytes())
    assert not work.run(*asked, code=Exit.CORRUPT).stdout
    path.unlink()
    shutil.copyfile(tmp_path / "whole", path)


def test_a_graph_that_is_another_is_told_before_a_runtime_opens_it(work: Workplace) -> None:
    asked = ("generate", "duo", "turn on the lamp", "--adapter", "one")
    # The base's weights cut short, and one bit of the graph turned, in which names are.
    for name, kept, turned in (("model.onnx.data", -1, 0), ("model.onnx", None, 1)):
        path = work.root / EXPORT / name
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ turned]) + whole[-8:kept])
        done = work.run(*asked, code=Exit.CORRUPT)
        assert f"{name}: its bytes are not those that were written" in done.stderr
        path.write_bytes(whole)


def test_an_export_alone_refuses_an_adapter_of_another_base(
    work: Workplace, tmp_path: Path
) -> None:
    """As DVC would not run it: the folders are of two plans."""
    other = Workplace((tmp_path / "project").resolve(), "duo")
    shutil.copytree(work.root, other.root)
    recipe = other.root / "recipes/duo.yaml"
    coarse = "target: {cpu-int4: {int4_block_size: 64}}\n"
    recipe.with_name("coarse.yaml").write_text(recipe.read_text() + coarse, encoding="utf-8")
    other.run("sync", "coarse")
    before = held(other)
    specs = other.root.glob("pipelines/quantize-cpu-int4-*/plan/quantize-cpu-int4.json")
    (spec,) = (path for path in specs if before.name not in str(path))
    other.run("exec", spec.relative_to(other.root).as_posix())
    shutil.rmtree(before)
    next(other.root.glob("outputs/quantize-cpu-int4-*")).rename(before)
    done = other.run("exec", "pipelines/duo/plan/export-cpu-int4.json", code=Exit.BAD_RECIPE)
    assert "outputs/duo/train/adapters/one: trained over the quantised base" in done.stderr
    assert f"reads the base in {before}" in done.stderr
    assert "run the recipe as a whole" in done.stderr


def test_an_adapter_that_joins_changes_neither_base_nor_others(work: Workplace) -> None:
    before = sha256_file(work.root / EXPORT / "adapters/one.onnx_adapter")
    write(work.root, "one", "two", "three")
    planned = json.loads(slmcompile(work.root, "plan", "duo", "--json").stdout)
    (train,) = (each for each in planned["stages"] if each["kind"] == "train")
    assert train["kept"] == ["one", "two"]
    work.ran()
    work.run("run", "duo")
    assert not {"quantize-cpu-int4", "base"} & work.ran()
    found = {path.stem for path in (work.root / EXPORT / "adapters").iterdir()}
    assert found == {"one", "two", "three"}
    assert sha256_file(work.root / EXPORT / "adapters/one.onnx_adapter") == before
    assert set(work.plan().values()) == {"unchanged"}


def test_one_that_another_recipe_trained_is_added_and_nobody_is_trained(work: Workplace) -> None:
    single = """
defaults: [tiny, {override /target: [cpu-int4]}, _self_]
train: {over: cpu-int4, num_train_epochs: 2, learning_rate: 1e-2}
gates: [{metric: exact_match, artifact: cpu-int4, min: 0.5}]
"""
    (work.root / "recipes/single.yaml").write_text(single, encoding="utf-8")
    work.run("run", "single")
    work.ran()
    done = work.run("add-adapter", EXPORT, "single")
    assert "taken from outputs/single/train" in done.stdout
    assert "taken from outputs/duo/train" in done.stdout
    # The base stays, the new folder is asked, and what torch answers is known.
    assert {name.partition("--")[0] for name in work.ran()} == {
        *("check", "export-cpu-int4", "answer-cpu-int4", "score", "report", "gate"),
    }
    folder = work.root / "outputs/duo-single/export-cpu-int4"
    assert sha256_file(folder / "model.onnx.data") == sha256_file(held(work) / "model.onnx.data")
    adapters = {path.stem: path for path in (folder / "adapters").iterdir()}
    assert {*adapters} == {"one", "two", "three", "single"}
    theirs = work.root / EXPORT / "adapters"
    for name in ("one", "two", "three"):
        assert sha256_file(adapters[name]) == sha256_file(theirs / f"{name}.onnx_adapter")
    both = [
        json.loads((work.root / f"pipelines/{name}/metrics/cpu-int4.json").read_text())
        for name in ("duo-single", "single")
    ]
    assert both[0]["members"]["single"]["exact_match"] == both[1]["exact_match"] >= 0.5
    asked = ("generate", "duo-single", "turn on the lamp", "--adapter", "single")
    assert work.run(*asked).stdout.strip() == "on"
    for recipe in ("duo", "single", "duo-single"):
        planned = json.loads(slmcompile(work.root, "plan", recipe, "--json").stdout)["stages"]
        assert {each["action"] for each in planned} == {"unchanged"}


def test_one_that_is_damaged_or_over_another_base_is_not_added(work: Workplace) -> None:
    path = work.root / "outputs/single/train/adapter/adapter_model.safetensors"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = work.run("add-adapter", "duo", "single", "--name", "other", code=Exit.CORRUPT)
    assert "adapter_model.safetensors: its bytes are not those that were written" in done.stderr
    path.unlink()
    path.write_bytes(whole)
    words = ("run", "single", "target.cpu-int4.int4_block_size=64", "--save-as", "coarse")
    slmcompile(work.root, *words, "--select", "base", check=False)
    done = work.run("add-adapter", "duo", "coarse", code=Exit.BAD_RECIPE)
    assert "target.cpu-int4 is quantised otherwise there" in done.stderr
    assert not {"other", "duo-coarse"} & {path.stem for path in (work.root / "recipes").iterdir()}
