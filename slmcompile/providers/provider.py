"""What is to be known of a hardware target before anything is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slmcompile.shapes.architecture import Architecture

if TYPE_CHECKING:
    from slmcompile.providers.keys import Target


DeviceKind = Literal[
    "cpu", "nvidia", "windows-gpu", "intel", "qualcomm", "apple", "browser", "server"
]
"""Kinds of devices that a model ships to."""


@dataclass(frozen=True)
class Shown:
    """What a model card says of the runtime that opens an export.

    Attributes:
        library: ``library_name`` of the Hugging Face hub.
        tags: of the hub.
        form: what became of the model, as in "… on these data, exported to X".
        usage: ``package.module:name`` of what writes how it is run there.
    """

    library: str
    tags: tuple[str, ...]
    form: str
    usage: str


GENAI = Shown(
    library="onnxruntime-genai",
    tags=("onnx", "onnxruntime-genai"),
    form="exported to ONNX for onnxruntime-genai",
    usage="slmcompile.report.snippets:genai",
)


@dataclass(frozen=True)
class Provider:
    """What an export is made for: an execution provider of ONNX Runtime, or another runtime.

    Attributes:
        name: as in ``target.NAME.execution_provider``.
        title: as in a model card.
        section: its keys of a target, and no others.
        builder: ``package.module:name`` of ``(target, model folder, out, cache)``, which writes a
            folder that its runtime opens, and may give back facts for its manifest; of a target
            that is probed also ``mixture=``, how wide each matrix is.
        builds_open: whether the builder takes the open model too, as ``model=``, and no weights of
            it in the folder; and ``spends=``, whether they may go as it writes them.
        opener: ``package.module:name`` of ``(folder, threads, spinning=, adapter=)``, which opens
            an exported folder as an ``ExportedModel``.
        made_by: the builder, for messages.
        packages: installed packages that an export depends on, beside torch's.
        runs_on: installed packages that its answers depend on.
        architectures: ``model_type`` → the class that transformers opens, of those that the
            builder knows.
        families: a sentence's worth of them.
        tokenizer_writer: ``package.module:name`` of ``(base, out)``, which puts the tokenizer's
            files beside the weights; empty where they are in one file.
        finisher: ``package.module:name`` of ``(base, out)``, which writes what needs all else to be
            there, ``prompt.json`` too; empty where there is nothing.
        computed_by: file of an export that says what is computed, whose bytes are compared before
            it is asked anything.
        calibration_rows: how many rows of training its builder also takes, by which it finds in
            what range each value lies; of others 0.
        inserter: ``package.module:name`` of ``(built folder, adapters, out)``, which puts adapters
            that do not merge into a built graph; empty where there is none.
        inserts_into: ``model_type`` of those in whose graph it finds the places; a test each.
        read_back: ``model_type`` of those in whose graph each module's products and weights are
            found, so that it is trained over and adapters are put beside it; a test each.
        built_with: bytes that its builder holds at once, beside the model that it is given.
        bytes: size of the exported weights, given the target and the base model's shapes.
        candidates: of what ``precision: auto`` is chosen among, eight at most: keys of its section
            by name. None of a provider that has no such precision.
        fault: what keeps a target from being built of a model, by its shapes: key and reason.
        tokenizer_fault: what keeps a target from reading texts as the model was trained to, by its
            ``tokenizer.json``; None of a provider that reads that file itself.
        room: tokens that prompt and answer may have together, of a target whose graph has fixed
            shapes; None where the model's own context is all that bounds them.
        simulator: the installed package that simulates its device; empty where none does.
        runtime_name: what onnxruntime calls it; empty of the CPU's, which every machine has.
        widened: precisions that the CPU's provider has no kernels for, so that elsewhere than on
            its device the same weights are run in fp32.
        install: the package that runs it on its device; empty where the installed one does.
        shown: what a model card says of it.
        devices: kinds of devices that it runs on, one a ``DeviceKind``; none where no plan is to
            recommend it.
        packer: ``package.module:name`` of what gives the files that a package has beside the
            export's; empty where those are programs for onnxruntime-genai, or none.
        probed: whether a target is built of what was measured of the trained model before.
        epoch: raised when its numbers change.
    """

    name: str
    title: str
    section: type[Target]
    builder: str
    opener: str
    made_by: str
    packages: tuple[str, ...]
    runs_on: tuple[str, ...]
    architectures: Mapping[str, str]
    families: str
    bytes: Callable[[Any, Architecture], float]
    built_with: Callable[[Any, Architecture], float]
    builds_open: bool = False
    tokenizer_writer: str = "slmcompile.models.tokenizer_files:write_tokenizer"
    finisher: str = ""
    computed_by: str = "model.onnx"
    calibration_rows: Callable[[Any], int] = lambda _target: 0
    inserter: str = ""
    inserts_into: frozenset[str] = frozenset()
    read_back: frozenset[str] = frozenset()
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fault: Callable[[Any, Architecture], tuple[str, str] | None] = lambda _target, _model: None
    tokenizer_fault: Callable[[Mapping[str, Any]], str | None] | None = None
    room: Callable[[Any], int | None] = lambda _target: None
    simulator: str = ""
    probed: Callable[[Any], bool] = lambda _target: False
    runtime_name: str = ""
    widened: frozenset[str] = frozenset()
    install: str = ""
    shown: Shown = GENAI
    devices: frozenset[DeviceKind] = frozenset()
    packer: str = ""
    epoch: int = 1
