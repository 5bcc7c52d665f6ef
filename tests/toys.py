"""An entry of each table that only tests know, and a recipe run with them in a process of its own.

Nothing of the package names any of them: what a new method, metric, provider and kind of stage take
is what stands here, with their programs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from slmcompile.methods import METHODS
from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import MemoryTerms, Method
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.making import Making
from slmcompile.providers import PROVIDERS
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import ARCHITECTURES
from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider
from slmcompile.recipe.project import Project
from slmcompile.shapes.architecture import Architecture, Trainable

# --- a train method that is no PEFT adapter: the norms of the first layers are trained ----------


class NormsTrain(Train):
    """The norms of the first layers are trained, everything else stays as it is."""

    method: MethodName = "norms"
    first_layers: int = Field(2, ge=0, description="Layers whose norms are trained.")


def is_trained(name: str, layers: int) -> bool:
    """Whether a weight is one of those norms."""
    return "norm" in name and any(f".layers.{number}." in name for number in range(layers))


def _trainable(train: NormsTrain, model: Architecture) -> Trainable:
    sizes = (
        prod(shape) for name, shape in model.shapes.items() if is_trained(name, train.first_layers)
    )
    return Trainable((), sum(sizes), 0, 0)


NORMS = Method(
    name="norms",
    title="norm tuning",
    section=NormsTrain,
    program="tests.toys:NORMS_PROGRAM",
    writes="adapter",
    packages=("torch", "transformers"),
    usual_rate=(1e-4, 1e-1),
    trainable=_trainable,
    memory=MemoryTerms(),
    details=lambda train: [f"{train['first_layers']} layers"],
)


class _NormsProgram:
    def open(self, config: NormsTrain, base: Path) -> Any:
        from slmcompile.models.base_model import load_base_model

        return load_base_model(base, config.precision)

    def attach(self, model: Any, config: NormsTrain) -> Any:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_trained(name, config.first_layers))
        return model

    def write(self, model: Any, weights: Mapping[str, Any], base: Path, out: Path) -> None:
        from safetensors.torch import save_file

        save_file(
            {name: weights[name].contiguous() for name in sorted(weights)},
            out / "norms.safetensors",
        )

    def merge(self, model: Any, trained: Path) -> Any:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(trained / "norms.safetensors"), strict=False)
        return model


NORMS_PROGRAM = _NormsProgram()

# --- a metric ------------------------------------------------------------------------------------

WORDS = Metric(
    name="one_word",
    title="One word",
    words="answers of one word",
    place=95,
    needs="text",
    program="tests.toys:ONE_WORD",
)


def _one_word() -> Any:
    from slmcompile.scoring.measures import Share

    return Share(lambda row: len(str(row["compared"]).split()) == 1)


ONE_WORD = _one_word()

# --- a hardware target ---------------------------------------------------------------------------


class BoxTarget(Target):
    """A factory box."""

    execution_provider: ProviderName = "box"
    precision: Literal["fp32"] = Field("fp32", description="Type of the exported weights.")
    serial: int = Field(1, ge=1, description="Which box.")


def build_for_box(target: BoxTarget, model: Path, out: Path, cache: Path) -> None:
    """By the CPU's builder, as a box has a CPU; and its number beside the model."""
    from slmcompile.export.builder import build

    build(CpuTarget(precision=target.precision), model, out, cache)
    (out / "box.txt").write_text(f"{target.serial}\n", encoding="utf-8")


BOX = Provider(
    name="box",
    title="factory box",
    section=BoxTarget,
    builder="tests.toys:build_for_box",
    made_by="the box's builder",
    packages=("onnxruntime", "onnxruntime-genai", "onnx"),
    runs_on=("onnxruntime", "onnxruntime-genai"),
    architectures={"llama": ARCHITECTURES["llama"]},
    families="Llama",
    bytes=lambda _target, model: 4.0 * model.parameters,
)

# --- a kind of stage -----------------------------------------------------------------------------


def _count_stages(making: Making) -> None:
    answers = making.of("answer")
    making.add(
        "count",
        {"metrics": list(making.recipe.eval.metrics)},
        {"metrics": "eval.metrics"},
        {},
        {"data": making.stage("data"), **{stage.name: stage for stage in answers}},
    )


COUNT = Kind(
    name="count",
    verb="count",
    place=66,
    program="tests.toys:count",
    plan=_count_stages,
    computes=False,
    instant=True,
)


def count(context: Any) -> Any:
    """Writes how many answers there are of each artifact."""
    from slmcompile.stages.context import Result

    found = {
        role: len((path / "answers.jsonl").read_text(encoding="utf-8").splitlines())
        for role, path in context.inputs.items()
        if role != "data"
    }
    (context.out / "counts.json").write_text(json.dumps(found), encoding="utf-8")
    return Result()


# --- a recipe with all of them -------------------------------------------------------------------

OVERRIDES = (
    "train=norms", "target=[box]", "eval.metrics=[exact_match,one_word,perplexity]",
    "train.num_train_epochs=1", "gates=[{metric: one_word, min: 0.0001}]",
)  # fmt: skip


@contextmanager
def toys() -> Iterator[None]:
    """The tables with the toys in them."""
    with ExitStack() as joined:
        for table, entry in ((METHODS, NORMS), (METRICS, WORDS), (PROVIDERS, BOX), (KINDS, COUNT)):
            joined.enter_context(table.joined_by(entry))
        yield


def add_groups(root: Path) -> None:
    """What a new method and a new target bring besides: a group each."""
    (root / "conf" / "train" / "norms.yaml").write_text(
        "method: norms\nlearning_rate: 1e-2\nnum_threads: 1\nsave_steps: 2\n", encoding="utf-8"
    )
    (root / "conf" / "target" / "box.yaml").write_text(
        "box:\n  execution_provider: box\n  serial: 7\n", encoding="utf-8"
    )


def run(root: Path) -> None:
    """Runs the recipe's stages one after the other; training is stopped once, and goes on."""
    from slmcompile.execution.sync import compile_recipe, sync
    from slmcompile.stages.runner import execute

    project = Project(root)
    plan = compile_recipe(project, "tiny", OVERRIDES)
    sync(project, [plan])
    for stage in plan.stages():
        if stage.kind == "train":
            _stopped_once(project, stage.spec_path)
        execute(project, stage.spec_path)


def _stopped_once(project: Project, spec_path: str) -> None:
    """Lets training fail behind its first checkpoint."""
    from slmcompile.stages.runner import execute
    from slmcompile.training.checkpoint import CheckpointFolder

    save = CheckpointFolder.save

    def failing(self: Any, *given: Any) -> None:
        save(self, *given)
        raise OSError("stopped")

    CheckpointFolder.save = failing  # type: ignore[method-assign]
    try:
        execute(project, spec_path)
    except OSError:
        pass
    finally:
        CheckpointFolder.save = save  # type: ignore[method-assign]


if __name__ == "__main__":
    with toys():
        shutil.rmtree(Path(sys.argv[1]) / "outputs", ignore_errors=True)
        run(Path(sys.argv[1]))
