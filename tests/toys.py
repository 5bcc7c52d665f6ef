"""An entry of each table that only tests know, and a recipe run with them in a process of its own.

Nothing of the package names any of them: what a new source, data step, template, optimizer, loss,
method, metric, provider and kind of stage take is what stands here, with their programs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from slmcompile.data_steps import DATA_STEPS
from slmcompile.data_steps.step import DataStep, StepKeys
from slmcompile.losses import LOSSES
from slmcompile.losses.keys import LossKeys
from slmcompile.losses.loss import Loss
from slmcompile.methods import METHODS
from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import MemoryTerms, Method
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.optimizers.optimizer import Optimizer
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.making import Making
from slmcompile.providers import PROVIDERS
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import ARCHITECTURES
from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider
from slmcompile.recipe.project import Project
from slmcompile.registry.scalars import ProjectPath
from slmcompile.registry.table import Table
from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.of_models.random import RandomModel, random_config, random_shapes
from slmcompile.sources.source import DataSource, Described, ModelSource
from slmcompile.templates import TEMPLATES
from slmcompile.templates.template import Template, TemplateKeys

# --- a source of base models: one size, from a seed ---------------------------------------------


class SeededModel(SourceKeys):
    """A small random model of which only the seed is chosen."""

    type: Literal["seeded"] = Field(description="Random weights of one size.")
    words: ProjectPath = Field(description="Text file the tokenizer is trained on.")
    number: int = Field(0, ge=0, description="Which of them.")


def _random(source: SeededModel) -> RandomModel:
    return RandomModel(type="random", tokenizer_text=source.words, seed=source.number)


def _described(source: SeededModel) -> Described:
    return Described(random_config(_random(source)), random_shapes(_random(source)))


SEEDED = ModelSource(
    name="seeded",
    place=90,
    section=SeededModel,
    program="tests.toys:make_seeded",
    file="words",
    described=_described,
    made_here=True,
)


def make_seeded(source: SeededModel, project: Path, out: Path, progress: Any) -> str:
    """Writes it."""
    from slmcompile.base.random_init import make_random

    make_random(_random(source), project, out, progress)
    return f"seeded model {source.number}"


# --- a source of rows: lines of text, question and answer ---------------------------------------


class LinesData(SourceKeys):
    """Lines of a text file: question, an arrow, answer."""

    type: Literal["lines"] = Field(description="Lines of text.")
    path: ProjectPath = Field(description="The file.")
    arrow: str = Field("=>", description="What stands between question and answer.")


LINES = DataSource(
    name="lines",
    place=90,
    section=LinesData,
    program="tests.toys:read_lines",
    files=lambda source: {"path": (source.path,)},
)


def read_lines(source: LinesData, project: Path, roots: Sequence[str]) -> Any:
    """A row a line, in the columns text and label."""
    from slmcompile.data.files import contained
    from slmcompile.data.rows import SourceRow
    from slmcompile.data.source import Rows

    lines = contained(project, source.path, roots).read_text(encoding="utf-8").splitlines()
    pairs = (line.split(f" {source.arrow} ") for line in lines)
    rows = [
        SourceRow({"text": text, "label": label}, f"{source.path}:{number}")
        for number, (text, label) in enumerate(pairs, start=1)
    ]
    return Rows({"train": rows})


# --- a data step ---------------------------------------------------------------------------------


class Shout(StepKeys):
    """A column in capitals."""

    type: Literal["shout"] = Field(description="A column in capitals.")
    column: str = Field(description="Which.")


SHOUT = DataStep(
    name="shout",
    section=Shout,
    program="tests.toys:shout",
    words=lambda step: f"shout {step.column}",
    row_by_row=True,
)


def shout(
    step: Shout, rows: Sequence[Any], columns: Mapping[str, str]
) -> tuple[list[Any], dict[str, int]]:
    """The rows with it, and how many were not so before."""
    from slmcompile.data.rows import as_text

    name = columns.get(step.column, step.column)
    texts = [as_text(row, step.column, columns).upper() for row in rows]
    made = [
        replace(row, values={**row.values, name: text})
        for row, text in zip(rows, texts, strict=True)
    ]
    return made, {"changed": sum(a != b for a, b in zip(made, rows, strict=True))}


# --- a template: two columns with a sign between --------------------------------------------------


class PairTemplate(TemplateKeys):
    """A column, a sign, another column."""

    type: Literal["pair"] = Field(description="Two columns.")
    asked: str = Field(description="Column with the question.")
    answered: str = Field(description="Column with the answer.")


PAIR = Template(
    name="pair",
    place=90,
    section=PairTemplate,
    program="tests.toys:pair_program",
    prompt="asked",
    columns=lambda keys: {"asked": keys.asked, "answered": keys.answered},
)


def _pair_program() -> Any:
    from slmcompile.data.guard import Guard
    from slmcompile.data.rows import Rendered, Rendering, SourceRow, Stop, as_text
    from slmcompile.data.template import parse
    from slmcompile.data.template_program import FilledIn
    from slmcompile.data.tokenizer import token_text

    class Pair(FilledIn):
        def render(
            self,
            rows: Sequence[SourceRow],
            template: PairTemplate,
            renamed: Mapping[str, str],
            tokenizer: Any,
            guard: Guard,
            answer: Any,
        ) -> Rendering:
            prompt = f"{{{template.asked}}} = "
            asked = parse(prompt, "data.template.asked")
            answered = parse(f"{{{template.answered}}}", "data.template.answered")
            found = [
                guard.lift(
                    Rendered(
                        row,
                        guard.fill(asked, row, renamed),
                        answer(guard.fill(answered, row, renamed)),
                        source=number,
                    )
                )
                for number, row in enumerate(rows)
            ]
            stop = Stop(tokenizer.eos_token_id, token_text(tokenizer, tokenizer.eos_token_id))
            return Rendering(found, stop, prompt, (template.asked,))

        def spell(
            self, row: SourceRow, template: PairTemplate, renamed: Mapping[str, str], guard: Guard
        ) -> None:
            for column in (template.asked, template.answered):
                guard.fill(parse(f"{{{column}}}", "data.template"), row, renamed)

        def answer(self, row: SourceRow, template: PairTemplate, renamed: Mapping[str, str]) -> str:
            return as_text(row, template.answered, renamed)

    return Pair()


pair_program = _pair_program()


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
    def open(self, config: NormsTrain, base: Path, device: Any) -> Any:
        from slmcompile.models.base_model import load_base_model

        return load_base_model(base, config.precision, device)

    def attach(self, model: Any, config: NormsTrain, _adapter: str) -> Any:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_trained(name, config.first_layers))
        return model

    def write(
        self, model: Any, weights: Mapping[str, Any], base: Path, out: Path, _adapter: str
    ) -> None:
        from safetensors.torch import save_file

        save_file(
            {name: weights[name].contiguous() for name in sorted(weights)},
            out / "norms.safetensors",
        )

    def read(
        self, _model: Any, _names: Collection[str], trained: Path, _adapter: str
    ) -> Mapping[str, Any]:
        from safetensors.torch import load_file

        return load_file(trained / "norms.safetensors")

    def apply(self, model: Any, trained: Path) -> Any:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(trained / "norms.safetensors"), strict=False)
        return model


NORMS_PROGRAM = _NormsProgram()

# --- an optimizer: a step of one length, whatever the gradient's --------------------------------

SIGNS = Optimizer(
    name="signs",
    program="tests.toys:signs",
    reads=frozenset(),
    state_bytes=4.0,
)


def signs(config: Train, weights: Iterable[Any]) -> Any:
    """The sign of the momentum, times the rate."""
    import torch

    class Signs(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            with torch.no_grad():
                for group in self.param_groups:
                    for weight in group["params"]:
                        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                        mean.lerp_(weight.grad, 0.1)
                        weight.sub_(mean.sign(), alpha=group["lr"])

    return Signs(list(weights), {"lr": config.learning_rate})


# --- a loss: a root of the cross entropy, so that what is far off does not rule -------------------


class RootedLoss(LossKeys):
    """The root of cross entropy."""

    floor: float = Field(0.1, gt=0, description="Added below the root.")


ROOTED = Loss(
    name="rooted",
    place=90,
    section=RootedLoss,
    program="tests.toys:rooted",
    words=lambda values: f"rooted cross entropy (floor {values['floor']:g})",
)


def rooted(keys: RootedLoss, _rows: Sequence[Any], _project: Path) -> Any:
    """Of each trained position."""
    from slmcompile.training.losses.program import Losses, LossProgram, Trained

    class Rooted(LossProgram):
        plain = False

        def __call__(self, trained: Trained) -> Losses:
            nats = trained.cross_entropy()
            return Losses((nats + keys.floor).sqrt(), nats.detach())

    return Rooted()


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
    from slmcompile.export.genai_builder import build

    build(CpuTarget(precision=target.precision), model, out, cache)
    (out / "box.txt").write_text(f"{target.serial}\n", encoding="utf-8")


BOX = Provider(
    name="box",
    title="factory box",
    section=BoxTarget,
    builder="tests.toys:build_for_box",
    opener="slmcompile.inference.onnx_model:load",
    made_by="the box's builder",
    packages=("onnxruntime", "onnxruntime-genai", "onnx"),
    runs_on=("onnxruntime", "onnxruntime-genai"),
    architectures={"llama": ARCHITECTURES["llama"]},
    families="Llama",
    bytes=lambda _target, model: 4.0 * model.parameters,
    built_with=lambda _target, model: 4.0 * model.parameters,
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
    *("model=seeded", "data=lines", "data.steps=[{type: shout, column: text}]"),
    *("train=norms", "train.optim=signs", "train.loss={type: rooted, floor: 0.5}"),
    *("train.num_train_epochs=1", "target=[box]"),
    "eval.metrics=[exact_match,one_word,perplexity]",
    "gates=[{metric: one_word, min: 0.0001}]",
)

TOYS: tuple[tuple[Table[Any], Any], ...] = (
    (MODEL_SOURCES, SEEDED), (DATA_SOURCES, LINES), (DATA_STEPS, SHOUT), (OPTIMIZERS, SIGNS),
    (TEMPLATES, PAIR), (LOSSES, ROOTED), (METHODS, NORMS), (METRICS, WORDS), (PROVIDERS, BOX),
    (KINDS, COUNT),
)  # fmt: skip


@contextmanager
def toys() -> Iterator[None]:
    """The tables with the toys in them."""
    with ExitStack() as joined:
        for table, entry in TOYS:
            joined.enter_context(table.joined_by(entry))
        yield


def add_groups(root: Path) -> None:
    """What new sources, a new method and a new target bring besides: a group each."""
    rows = map(json.loads, (root / "data/tiny/commands.jsonl").read_text("utf-8").splitlines())
    (root / "data" / "lines.txt").write_text(
        "\n".join(f"{row['text']} => {row['label']}" for row in rows), encoding="utf-8"
    )
    (root / "conf" / "model" / "seeded.yaml").write_text(
        "name: seeded\nlicense: Apache-2.0\nsource:\n  type: seeded\n"
        "  words: data/lines.txt\n  number: 3\n",
        encoding="utf-8",
    )
    tiny = (root / "conf" / "data" / "tiny-commands.yaml").read_text("utf-8")
    (root / "conf" / "data" / "lines.yaml").write_text(
        tiny.replace("type: file", "type: lines")
        .replace("tiny/commands.jsonl", "lines.txt")
        .replace("type: text", "type: pair")
        .replace('prompt: "{text} = "', "asked: text")
        .replace('completion: "{label}"', "answered: label"),
        encoding="utf-8",
    )
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
