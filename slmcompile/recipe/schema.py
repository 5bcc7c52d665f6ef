"""The recipe's types: the one place that says which keys exist and what they mean.

Every section is frozen, strict and closed (an unknown key is an error). Key names are those of
Hugging Face ``TrainingArguments``, PEFT ``LoraConfig`` and onnxruntime-genai wherever those have
a name. A field marked ``cosmetic`` cannot change any result; it is kept out of every stage's spec
and so out of every fingerprint.

This module knows nothing of Hydra, files or stages; what kinds of things there are it asks the
tables (``metrics/``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from slmcompile.data_steps import DATA_STEPS
from slmcompile.losses import LOSSES
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Precision, Train
from slmcompile.metrics import METRICS
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Budget, Target
from slmcompile.providers.provider import DeviceKind
from slmcompile.recipe.data_parts import (
    AnyDataSource,
    AnyStep,
    AnyTemplate,
    OneSource,
    Part,
    part_of,
    wrong_labels,
    wrong_sources,
)
from slmcompile.registry.markers import ByName, NameIn
from slmcompile.registry.scalars import DisplayName, Identifier, ProjectPath
from slmcompile.registry.section import Section, Seed, cosmetic
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.templates import TEMPLATES

Task = Literal["classification", "generation", "extraction", "summarisation"]
LabelStep = Literal["unicode", "space", "number", "case"]

# --- model -----------------------------------------------------------------------------------


AnyModelSource = Annotated[SourceKeys, ByName(MODEL_SOURCES, "type")]
"""The section of the source that ``type`` names, with its keys and no others."""


class Model(Section):
    """The base model: where its weights come from and what it is called."""

    name: DisplayName = cosmetic(..., "Name shown in reports and model cards.")
    license: DisplayName = cosmetic("unknown", "SPDX identifier of the base model's licence.")
    parameters: int | None = cosmetic(
        None, "Parameters of the base model, tied weights once; null where not known.", ge=1
    )
    source: AnyModelSource = Field(description="Where the weights come from.")


# --- data ------------------------------------------------------------------------------------


class SplitRule(Section):
    """How one file becomes train, validation and test."""

    strategy: Literal["random", "stratified", "group"] = Field(
        "random",
        description="random; stratified keeps the shares of `by`; group keeps equal `by` together.",
    )
    by: str | None = Field(
        None, description="Column to stratify or group by.", validate_default=True
    )
    validation: float = Field(
        0.1, gt=0.0, lt=0.9, description="Share of the rows for validation, 0 to 1."
    )
    test: float = Field(
        0.1, gt=0.0, lt=0.9, description="Share of the rows for the test split, 0 to 1."
    )

    @field_validator("by")
    @classmethod
    def _named_for_groups(cls, column: str | None, info: ValidationInfo) -> str | None:
        if column is None and info.data.get("strategy") == "group":
            raise PydanticCustomError(
                "keys_disagree",
                "must name a column where the strategy is group",
                {"mend": "name the column of the groups"},
            )
        return column

    @field_validator("test")
    @classmethod
    def _leaves_rows_to_train(cls, share: float, info: ValidationInfo) -> float:
        validation = info.data.get("validation", 0.0)
        if validation + share >= 1:
            raise PydanticCustomError(
                "keys_disagree",
                "must leave rows to train on beside a validation of {validation}",
                {"validation": validation, "mend": "let validation and test add to less than 1"},
            )
        return share


class Data(Section):
    """Where the rows come from and how a row becomes tokens and labels."""

    name: DisplayName = cosmetic(..., "Name shown in reports and model cards.")
    license: DisplayName = cosmetic("unknown", "SPDX identifier of the data's licence.")
    task: Task = Field(description="What the model is to do; decides how answers are compared.")
    source: AnyDataSource | None = Field(
        None, description="Where the rows come from; of several places, `sources` says it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        max_length=256,
        description="Renames columns: {name in the template: name in file}.",
    )
    steps: tuple[AnyStep, ...] = Field(
        (),
        max_length=16,
        description="What is done with the rows before templates and splits, in this order:"
        " [{type: keep, column: language, values: [en]}].",
    )
    template: AnyTemplate | None = Field(
        None,
        description="How a row becomes a prompt and an answer; of several sources, of those that"
        " have none of their own.",
    )
    sources: tuple[OneSource, ...] = Field(
        (),
        max_length=64,
        description="Instead of `source`: several sources, mixed in training and measured each by"
        " itself and together.",
    )
    split: SplitRule = Field(SplitRule(), description="How rows are divided into splits.")
    label: str | None = Field(
        None,
        description="Key of the completion's JSON object that is the label (an intent, a class);"
        " null makes the whole completion the label.",
    )
    normalize_labels: Annotated[tuple[LabelStep, ...], Field(max_length=4)] | None = Field(
        None,
        description="How a label that is written in several ways becomes one, in training and in"
        ' what is compared. space: none at the ends, one within; number: 1.0, "1" and true'
        " become 1; case: small letters; unicode: NFKC. null refuses such labels, and warns of"
        " those that differ in case or letter form alone; [] says that they are different ones.",
    )
    special_tokens: Literal["refuse", "text"] = Field(
        "refuse",
        description="What to do with a row whose values spell a control token of the model"
        " (<|im_start|>): refuse the data, or encode it as text. What the template itself spells"
        " stays a token; text that a user gives to the trained model is always text.",
    )
    max_length: int = Field(512, ge=8, le=131072, description="Tokens a row, prompt and answer.")
    too_long: Literal["error", "drop"] = Field(
        "error",
        description="What to do with a row longer than max_length; plain text (template completion)"
        " becomes several rows and is never too long.",
    )
    seed: Seed = Field(
        0,
        description="Seed of the split, of the rows that a mixture of sources takes, and of those"
        " that eval.limit takes.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without steps and other sources where there are none."""
        found: dict[str, Any] = rest(self)
        absent = {key for key in ("steps", "sources") if not getattr(self, key)}
        absent |= {key for key in ("source", "template") if getattr(self, key) is None}
        return {key: value for key, value in found.items() if key not in absent}

    @model_validator(mode="after")
    def _sources_agree(self) -> Data:
        wrong = [
            *wrong_sources(self.source, self.template, self.sources),
            *(wrong_labels(self.template, self.sources) if self.labelled else ()),
        ]
        if wrong:
            raise ValidationError.from_exception_data("Data", wrong)
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every source of rows, in order."""
        if self.source is not None and self.template is not None:
            return (Part(self.source, self.columns, self.steps, self.template),)
        return tuple(
            part_of(number, one, self.columns, self.steps, self.template)
            for number, one in enumerate(self.sources)
        )

    @property
    def asks(self) -> bool:
        """Whether some row of the task has a prompt and an answer, and is no plain text."""
        return any(TEMPLATES[p.template.type].asks for p in self.parts if p.counted)

    @property
    def source_key(self) -> str:
        """The key that says where the rows come from."""
        return "data.sources" if self.sources else "data.source"

    def with_sources(self, sources: Sequence[SourceKeys]) -> Data:
        """The same with other sources in the places of its parts'."""
        if not self.sources:
            return self.model_copy(update={"source": sources[0]})
        entries = zip(self.sources, sources, strict=True)
        found = tuple(one.model_copy(update={"source": source}) for one, source in entries)
        return self.model_copy(update={"sources": found})

    @property
    def labelled(self) -> bool:
        """Whether a row's label is one of a fixed set."""
        return self.label is not None or self.task == "classification"

    @property
    def label_steps(self) -> tuple[LabelStep, ...]:
        """What is done to every label."""
        return (self.normalize_labels or ()) if self.labelled else ()


# --- train -----------------------------------------------------------------------------------


AnyTrain = Annotated[Train, ByName(METHODS, "method", default="lora")]
"""The section of the method that ``method`` names, with its keys and no others."""


def train_section(values: Mapping[str, Any]) -> Train:
    """A train section from plain values, as a spec holds them.

    Raises:
        ValidationError: of pydantic's, where they are none.
    """
    found: Train = TypeAdapter(AnyTrain).validate_json(json.dumps(values))
    return found


# --- eval ------------------------------------------------------------------------------------

MetricName = Annotated[str, NameIn(METRICS, lambda metric: metric.always == "never")]
GateMetric = Annotated[str, NameIn(METRICS)]


def _told_by_task() -> str:
    """Default metrics in words."""

    def told(task: str, *, labelled: bool, asks: bool = True) -> list[str]:
        every = METRICS.values()
        return [m.name for m in every if m.by_default_of(task, labelled=labelled, asks=asks)]

    tasks = {task: told(task, labelled=task == "classification") for task in get_args(Task)}
    words = [f"of {task} {', '.join(names)}" for task, names in tasks.items()]
    labels = [name for name in told("", labelled=True) if name not in told("", labelled=False)]
    text = ", ".join(told("", labelled=False, asks=False))
    return (
        f"{'; '.join(words)}; and with data.label {', '.join(labels)}; of plain text (template"
        f" completion) {text}"
    )


def default_metrics(data: Data) -> tuple[str, ...]:
    """What is measured where ``eval.metrics`` is not given."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.by_default_of(data.task, labelled=data.labelled, asks=data.asks)
    )


MOST_GATES = 1000
"""As many as a statement can say of."""


class Gate(Section):
    """A bar that an artifact must pass, or the run ends with exit 3."""

    adapter: Identifier | None = Field(
        None, description="Whose, in a recipe with adapters: one of their names."
    )
    metric: GateMetric = Field(
        description="A metric of eval.metrics; or one that is always measured: cut_off, the share"
        " of answers that ended at eval.max_new_tokens, and valid_json of the task extraction."
    )
    artifact: Identifier = Field("torch", description="`torch` or the name of a target.")
    min: float | None = Field(None, description="Lowest value that passes.")
    max: float | None = Field(None, description="Highest value that passes.")
    max_drop: float | None = Field(
        None, ge=0, description="Largest loss against the torch model, in the metric's own unit."
    )
    beyond_chance: bool = Field(
        False,
        description="max_drop only: whether a loss that chance explains passes, by the rows on"
        " which the two differ; a bar that holds on few rows too.",
    )
    source: Identifier | None = Field(
        None,
        description="The name of one of data.sources, of whose test rows alone the bar is; null is"
        " all of the task.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without an adapter or a source where there are none."""
        absent = {key for key in ("adapter", "source") if getattr(self, key) is None}
        absent |= set() if self.beyond_chance else {"beyond_chance"}
        found: dict[str, Any] = rest(self)
        return {key: value for key, value in found.items() if key not in absent}


class Eval(Section):
    """What is measured on the test split, the same way for every artifact."""

    metrics: tuple[MetricName, ...] = Field(
        default_factory=tuple,
        max_length=16,
        description=f"What is measured. Left out, it goes by the task: {_told_by_task()}.",
        json_schema_extra={"default_by": "data.task"},
    )
    json_schema: ProjectPath | None = Field(
        None,
        description="JSON Schema (draft 2020-12) that json_schema_valid holds answers against:"
        " `schemas/answer.json`. References to other files or addresses are refused.",
    )
    max_new_tokens: int = Field(
        64, ge=1, le=8192, description="Tokens an answer may have, its stop token left out."
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Rows of the test split that are measured, a sample seeded by data.seed: each"
        " label once, the most frequent first, and further rows by how frequent a label is. Where"
        " many labels are rare, these are a larger part of it than of the split. null takes all.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=1024,
        description="Rows generated at once; a speed setting that can move rounding.",
    )
    precision: Precision = Field(
        "fp32",
        description="Floating-point type that the torch models answer in; a target has its own.",
    )
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="CPU threads of whoever answers."
    )
    base_model: bool = Field(True, description="Also measure the base model, untrained.")
    baselines: bool = Field(True, description="Also measure nearest neighbour and TF-IDF.")

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the file that a metric reads where none is named: most metrics read none."""
        found: dict[str, Any] = rest(self)
        if self.json_schema is None:
            found.pop("json_schema", None)
        return found


# --- target ----------------------------------------------------------------------------------


AnyTarget = Annotated[Target, ByName(PROVIDERS, "execution_provider", default="cpu")]
"""The section of the provider that ``execution_provider`` names, with its keys and no others."""


def target_section(values: Mapping[str, Any]) -> Target:
    """A target's section from plain values, as a spec holds them.

    Raises:
        ValidationError: of pydantic's, where they are none.
    """
    found: Target = TypeAdapter(AnyTarget).validate_json(json.dumps(values))
    return found


# --- track -----------------------------------------------------------------------------------


class Track(Section):
    """Experiment tracking. Nothing here can change a result."""

    type: Literal["wandb", "tensorboard", "none"] = cosmetic("none", "Which tracker.")
    project: DisplayName = cosmetic("slmcompile", "W&B project.")
    mode: Literal["offline", "online"] = cosmetic("offline", "W&B mode.")
    tags: tuple[DisplayName, ...] = cosmetic((), "Free labels on the run.", max_length=64)


# --- device ----------------------------------------------------------------------------------


class StatedDevice(Section):
    """The machine that runs the stages, if not this one. Nothing here can change a result."""

    memory_gb: float | None = cosmetic(
        None,
        "Memory of a process there, 10⁹ bytes; null takes what is detected here.",
        gt=0,
        le=1e6,
    )


class Deploy(Section):
    """What the model ships to. Nothing here can change a result: a plan recommends targets."""

    device: DeviceKind = cosmetic(..., "Kind of the device.")
    memory_gb: float | None = cosmetic(
        None, "Memory that the model may take there, 10⁹ bytes; null for any.", gt=0, le=1e6
    )


def _metrics_by_task(section: Eval, info: ValidationInfo) -> Eval:
    data, given = info.data.get("data"), section.model_fields_set
    if data is None:
        return section
    by_task: dict[str, Any] = {"metrics": default_metrics(data)}
    # Whom nobody asks has no baseline to beat.
    by_task |= {} if data.asks else {"baselines": False}
    return section.model_copy(
        update={key: value for key, value in by_task.items() if key not in given}
    )


class Adapter(Section):
    """One of several adapters over the recipe's base model, with a task of its own."""

    data: Data = Field(description="Its rows.")
    train: AnyTrain = Field(
        description="What differs from the recipe's train, which it is laid over."
    )
    eval: Eval = Field(description="What is measured of it; laid over the recipe's eval.")
    recipe: Identifier | None = Field(
        None,
        description="Instead of all these: the recipe of one adapter that trains it. It is taken"
        " as it is there.",
    )

    _default_metrics = field_validator("eval")(_metrics_by_task)

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a recipe where it is trained in this one."""
        found: dict[str, Any] = rest(self)
        if self.recipe is None:
            found.pop("recipe", None)
        return found


class Recipe(Section):
    """A whole recipe, composed and validated.

    Of one with adapters, ``data`` and ``eval`` are those of the first and not to be used.
    """

    said_if_other: ClassVar[tuple[str, ...]] = ("default_gates", "deploy")

    description: str = cosmetic("", "One sentence for the report and the model card.")
    model: Model = Field(description="The base model.")
    data: Data = Field(description="The rows and how they become tokens.")
    train: AnyTrain = Field(description="How it is trained.")
    eval: Eval = Field(description="What is measured.")
    adapters: dict[Identifier, Adapter] = Field(
        default_factory=dict,
        max_length=64,
        description="Several adapters over the one base model, trained together, by name. Each has"
        " data and eval of its own, in the place of the recipe's.",
    )
    target: dict[Identifier, AnyTarget] = Field(
        max_length=64, description="Exported artifacts, by name."
    )
    gates: tuple[Gate, ...] = Field(
        (), max_length=MOST_GATES, description="Bars that artifacts must pass."
    )
    default_gates: bool = Field(
        True,
        description="Whether a quantised target that no gate is about gets one: the first of"
        " eval.metrics that tells that answers are right may not fall by more than 3 points"
        " (max_drop 0.03; of a metric of 0 to 100, 3) from the torch model, beyond chance.",
    )
    track: Track = Field(Track(), description="Experiment tracking.")
    device: StatedDevice = Field(
        StatedDevice(), description="The machine that runs the stages, for the checks."
    )
    deploy: Deploy | None = cosmetic(
        None, "What the model ships to: the plan says which targets fit there."
    )

    _default_metrics = field_validator("eval")(_metrics_by_task)

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without adapters where there are none; with them, without what is each one's own.

        What default gates there are, the gates say.
        """
        found: dict[str, Any] = rest(self)
        for key in ("data", "eval") if self.adapters else ("adapters",):
            found.pop(key, None)
        for key in self.said_if_other:
            if key in found and found[key] == type(self).model_fields[key].default:
                del found[key]
        return found


def _rebuild() -> None:
    """Makes the types again from the tables as they are now."""
    sections: list[type[Section]] = [
        Budget,
        *(entry.section for entry in MODEL_SOURCES.values()),
        *(entry.section for entry in DATA_SOURCES.values()),
        *(entry.section for entry in DATA_STEPS.values()),
        *(entry.section for entry in TEMPLATES.values()),
        *(entry.section for entry in LOSSES.values()),
        *(entry.section for entry in METHODS.values()),
        *(entry.section for entry in PROVIDERS.values()),
    ]
    sections += [Model, OneSource, Data, Gate, Eval, Adapter, Recipe]
    for section in sections:
        section.model_rebuild(force=True)


for _table in (
    *(MODEL_SOURCES, DATA_SOURCES, DATA_STEPS, TEMPLATES),
    *(OPTIMIZERS, LOSSES, METHODS, METRICS, PROVIDERS),
):
    _table.watch(_rebuild)
