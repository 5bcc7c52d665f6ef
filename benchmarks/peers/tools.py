"""The four tools: each writes a job as its own configuration and says which commands a user runs.

The first command is the tool's own check where it has one; the next runs only if that accepts.
Where a tool has no key for something, the nearest is taken and said in ``notes``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peers.cases import Job

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Command:
    """A step a user takes: what it is called in the table, its words, what is done before it."""

    label: str
    words: list[str]
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        name: shown in the table.
        package: on PyPI; empty for slmcompile, which is taken from this tree.
        commands: ``(job, folder, programs)`` to commands; writes the configuration into
            ``folder``, where the inputs lie already; ``programs`` is the environment's bin folder.
        loading: regular expression; output that matches it shows that the model was being loaded.
        training: as ``loading``, for the first optimizer step.
        notes: what a reader of the table must know.
        environment: variables of its own.
    """

    name: str
    package: str
    commands: Callable[[Job, Path, Path], list[Command]]
    notes: tuple[str, ...]
    loading: str = r"Loading weights|modeling_utils\.py|\bpeft/"
    training: str = r"\| 0/2 \["
    environment: dict[str, str] = field(default_factory=dict)


def _olive(job: Job, folder: Path, programs: Path) -> list[Command]:
    olive = str(programs / "olive")
    words = [olive, "finetune", "--dry_run", "--disable_telemetry", "-o", "out", "-m", job.base]
    words += ["-d", "json", "--data_files", f"{job.rows}.jsonl", "--use_chat_template"]
    words += ["--torch_dtype", "float32", "--lora_r", str(job.rank)]
    words += ["--target_modules", ",".join(job.target_modules)]
    words += ["--max_seq_len", str(job.max_length), "--learning_rate", "0.001"]
    words += [f"--{job.decay_key}", "0.01"]
    words += ["--per_device_train_batch_size", job.batch_size, "--max_steps", "2"]
    words += ["--use_cpu", "true"]

    def aim() -> None:
        path = folder / "out" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if job.target != "cpu":
            config["systems"]["local_system"]["accelerators"][0]["device"] = job.target
        path.write_text(json.dumps(config), encoding="utf-8")

    run = [olive, "run", "--disable_telemetry", "--config", "out/config.json"]
    return [Command("finetune --dry_run", words), Command("run", run, aim)]


def _llamafactory(job: Job, folder: Path, programs: Path) -> list[Command]:
    columns = {"columns": {"messages": "messages"}}
    tags = {"role_tag": "role", "content_tag": "content"}
    tags |= {"user_tag": "user", "assistant_tag": "assistant"}
    info = {"file_name": f"{job.rows}.jsonl", "formatting": "sharegpt", "tags": tags} | columns
    (folder / "dataset_info.json").write_text(json.dumps({"rows": info}), encoding="utf-8")
    (folder / "job.yaml").write_text(
        f"""model_name_or_path: {job.base}
stage: sft
do_train: true
finetuning_type: lora
lora_rank: {job.rank}
lora_target: {",".join(job.target_modules)}
dataset: rows
dataset_dir: .
cutoff_len: {job.max_length}
output_dir: out
learning_rate: 0.001
{job.decay_key}: 0.01
per_device_train_batch_size: {job.batch_size}
max_steps: 2
use_cpu: true
report_to: none
export_device: {job.target}
""",
        encoding="utf-8",
    )
    return [Command("train", [str(programs / "llamafactory-cli"), "train", "job.yaml"])]


def _axolotl(job: Job, folder: Path, programs: Path) -> list[Command]:
    (folder / "job.yaml").write_text(
        f"""base_model: {job.base}
datasets:
  - path: {job.rows}.jsonl
    ds_type: json
    type: chat_template
    field_messages: messages
chat_template: tokenizer_default
dataset_prepared_path: prepared
dataset_num_proc: 1
adapter: lora
lora_r: {job.rank}
lora_alpha: 8
lora_target_modules: [{", ".join(job.target_modules)}]
sequence_len: {job.max_length}
micro_batch_size: {job.batch_size}
gradient_accumulation_steps: 1
learning_rate: 0.001
{job.decay_key}: 0.01
optimizer: adamw_torch
lr_scheduler: cosine
num_epochs: 1
max_steps: 2
output_dir: out
bf16: false
fp16: false
device_map: {job.target}
""",
        encoding="utf-8",
    )
    axolotl = str(programs / "axolotl")
    return [
        Command("preprocess", [axolotl, "preprocess", "job.yaml"]),
        Command("train", [axolotl, "train", "job.yaml", "--launcher", "python"]),
    ]


def _slmcompile(job: Job, folder: Path, _: Path) -> list[Command]:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "job.yaml").write_text(
        f"""model:
  name: random
  license: Apache-2.0
  source: {{type: folder, path: {job.base}}}
data:
  name: rows
  license: Apache-2.0
  task: generation
  source: {{type: file, path: {job.rows}.jsonl}}
  template: {{type: messages, column: messages}}
  max_length: {job.max_length}
train:
  lora:
    r: {job.rank}
    lora_alpha: 8
    target_modules: [{", ".join(job.target_modules)}]
  learning_rate: 1e-3
  {job.decay_key}: 0.01
  per_device_train_batch_size: {job.batch_size}
  max_steps: 2
  num_threads: 1
eval:
  metrics: [perplexity]
  max_new_tokens: 4
  base_model: false
  baselines: false
target:
  cpu-fp32: {{execution_provider: {job.target}, precision: fp32}}
""",
        encoding="utf-8",
    )
    (folder / "conf").mkdir()
    (folder / ".dvc").mkdir()
    for name in (".gitignore", ".dvcignore", "dvc.yaml", ".dvc/config"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for words in (["init"], ["add", "recipes", "dvc.yaml"], [*identity, "commit", "-m", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    program = [sys.executable, "-m", "slmcompile"]
    return [Command("plan", [*program, "plan", "job"]), Command("run", [*program, "run", "job"])]


TOOLS: dict[str, Tool] = {
    "olive": Tool(
        "Olive",
        "olive-ai",
        _olive,
        (
            "`olive finetune --dry_run` writes a configuration, `olive run` then runs that.",
            "It trains on prompt and answer alike and joins all rows into one text, so it has no "
            "label mask: 6 and 10 are the same files and lengths as for the others.",
            "`finetune` has no option for a target: 8 edits the device in what was written.",
        ),
    ),
    "llamafactory": Tool(
        "LLaMA-Factory",
        "llamafactory",
        _llamafactory,
        (
            "It has no check apart from training: `llamafactory-cli train job.yaml`.",
            "Training has no target: 8 is `export_device`, which its later export reads.",
            "Installed without torchvision and with torchaudio's native library removed: both are "
            "CUDA builds on PyPI that stop the import beside a CPU torch; text needs neither.",
        ),
    ),
    "axolotl": Tool(
        "Axolotl",
        "axolotl",
        _axolotl,
        (
            "`axolotl preprocess job.yaml`, then `axolotl train job.yaml --launcher python`.",
            "It exports nothing: 8 is `device_map`.",
        ),
    ),
    "slmcompile": Tool(
        "slmcompile",
        "",
        _slmcompile,
        ("`slmcompile plan`, then `slmcompile run` to its end: export and evaluation included.",),
        loading=r"error: job/train",
        training=r"  job/train: step",
        environment={
            "PYTHONPATH": str(REPOSITORY),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
    ),
}
