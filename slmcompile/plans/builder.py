"""Recipe → Plan: which stages there are, what each reads of the recipe, and how they connect.

Pure but for reading the bytes of the project files that stages depend on. Imports nothing heavy.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slmcompile.console.errors import BadRecipeError, Exit, MissingError, SlmcompileError, all_of
from slmcompile.files.file_hash import file_hash
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.metrics import METRICS
from slmcompile.plans.canonical import digest
from slmcompile.plans.data_files import followed, glob_folders, keys_of
from slmcompile.plans.definition import Pipeline, Plan, Stage
from slmcompile.plans.project_files import files_below, inside
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import (
    Data,
    FileData,
    FolderModel,
    HubData,
    Model,
    PackageModel,
    RandomModel,
    Recipe,
)

RESERVED = frozenset({"torch", "base", "baselines"})
_TEXT = ("transformers", "tokenizers")
_TORCH = ("torch", "transformers", "peft")
_VERSION = re.compile(r"^Version: *(\S+) *$", re.MULTILINE)


def build(project: Project, composed: Composed) -> Plan:
    """Compiles a recipe.

    Raises:
        BadRecipeError: targets or gates that contradict each other (exit 78).
        BadDataError: a data file that is not there (exit 65).
        RefusedError: a path outside the project (exit 77).
    """
    rows = composed.recipe.data.source
    composed, base = _looked_over(project, composed)
    recipe = composed.recipe
    data = _data_stage(recipe.data, base)
    stages = _recipe_stages(composed, base, data)
    effective = recipe.model_dump(mode="json")
    own = Pipeline(
        composed.name,
        stages,
        sources=tuple(
            project.shown(path) for path in composed.files if path.is_relative_to(project.root)
        ),
        folders=glob_folders(rows) if isinstance(rows, FileData) else (),
        runtime=_cosmetic(recipe),
    )
    files = {
        path: file_hash(project.root / path, "sha256")
        for stage in (base, data)
        for path in stage.files
    }
    return Plan(
        recipe=composed.name,
        overrides=composed.overrides,
        shared=(Pipeline(base.pipeline, (base,)), Pipeline(data.pipeline, (data,))),
        own=own,
        origins={".".join(keys): where for keys, where in composed.origins.items()},
        effective=effective,
        files=files,
    )


def _looked_over(project: Project, composed: Composed) -> tuple[Composed, Stage]:
    """The recipe with its files followed, and its base; raises all that is wrong with it at once.

    What is refused by policy is named first.
    """
    wrong: list[SlmcompileError] = [*_wrong_names(composed)]
    found, base = composed, None
    try:
        found = _with_files_followed(project, composed)
    except SlmcompileError as error:
        wrong.append(error)
    try:
        base = _base_stage(composed.recipe.model, project, composed)
    except SlmcompileError as error:
        wrong.append(error)
    if base is None or wrong:
        raise all_of(sorted(wrong, key=lambda error: error.code != Exit.REFUSED))
    return found, base


def _with_files_followed(project: Project, composed: Composed) -> Composed:
    """Globs are followed once, here: what reads the recipe later reads the same files."""
    recipe = composed.recipe
    if not isinstance(recipe.data.source, FileData):
        return composed
    source = followed(project, recipe.data.source, composed)
    data = recipe.data.model_copy(update={"source": source})
    return replace(composed, recipe=recipe.model_copy(update={"data": data}))


def _wrong_names(composed: Composed) -> Iterator[BadRecipeError]:
    """Targets and gates that cannot be; one error a gate."""
    recipe = composed.recipe
    if not recipe.target:
        yield BadRecipeError(
            f"{composed.origin(('target',))}: target: no target is named",
            "name at least one, e.g. `- target: [cpu-int8]`",
        )
    for name in recipe.target:
        if name in RESERVED:
            yield BadRecipeError(
                f"{composed.origin(('target', name))}: target.{name}: the name is taken",
                f"choose a name other than {', '.join(sorted(RESERVED))}",
            )
    for index, gate in enumerate(recipe.gates):
        where = f"{composed.origin(('gates', str(index)))}: gates.{index}"
        known = ["torch", *recipe.target]
        if gate.artifact not in known:
            yield BadRecipeError(
                f"{where}: no artifact is called {gate.artifact!r}",
                f"artifacts: {', '.join(known)}",
            )
        elif gate.metric not in recipe.eval.metrics and not METRICS[gate.metric].always_of(
            recipe.data.task
        ):
            yield BadRecipeError(
                f"{where}: {gate.metric} is not measured", f"add {gate.metric} to eval.metrics"
            )
        elif gate.min is None and gate.max is None and gate.max_drop is None:
            yield BadRecipeError(f"{where}: it has no bar", "give min, max or max_drop")
        elif gate.max_drop is not None and gate.artifact == "torch":
            yield BadRecipeError(
                f"{where}: max_drop compares an export with the torch model",
                "name the export: artifact: cpu-int8",
            )


def _base_stage(model: Model, project: Project, composed: Composed) -> Stage:
    source = model.source
    packages = _versions(*_TEXT, "torch", "safetensors")
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    if isinstance(source, PackageModel):
        packages |= _versions("gguf")
    if isinstance(source, RandomModel):
        where = (
            f"{composed.origin(('model', 'source', 'tokenizer_text'))}: model.source.tokenizer_text"
        )
        files = (inside(project, source.tokenizer_text, where),)
        names = ("source.tokenizer_text",)
    if isinstance(source, FolderModel):
        where = f"{composed.origin(('model', 'source', 'path'))}: model.source.path"
        files = files_below(project, inside(project, source.path, where, folder=True), where)
        names = ("source.path",)
    return _shared("base", {"source": _typed(source)}, packages, files, names, None)


def _data_stage(data: Data, base: Stage) -> Stage:
    source = data.source
    packages = _versions(*_TEXT, "pyarrow")
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    if isinstance(source, HubData):
        packages |= _versions("datasets")
    if isinstance(source, FileData):
        names = keys_of(source)
        files = tuple(path for paths in source.paths.values() for path in paths)
    return _shared("data", _typed(data), packages, files, names, base)


def _shared(
    kind: str,
    config: dict[str, Any],
    packages: dict[str, str],
    files: tuple[str, ...],
    names: tuple[str, ...],
    base: Stage | None,
) -> Stage:
    """A stage in a pipeline of its own, named by what it does: equal specs are one stage.

    The folder's name, unlike the identity, depends on where the files lie: what is in them is not
    known to whoever reads the recipe alone, and two recipes with the same keys may have others.
    """
    inputs = {"base": base.out} if base else {}
    short = digest([kind, config, packages, inputs])[:8]
    pipeline = f"{kind}-{short}"
    return Stage(
        pipeline=pipeline,
        name=kind,
        kind=kind,
        config=config,
        packages=packages,
        inputs=inputs,
        input_stages={"base": base.address} if base else {},
        files=files,
        names=names,
        out=f"outputs/{pipeline}",
    )


def _recipe_stages(composed: Composed, base: Stage, data: Stage) -> tuple[Stage, ...]:
    name, recipe = composed.name, composed.recipe

    def stage(
        stage_name: str,
        kind: str,
        config: dict[str, Any],
        packages: dict[str, str],
        inputs: dict[str, Stage],
        *,
        metrics: str | None = None,
        plots: str | None = None,
    ) -> Stage:
        folder = f"pipelines/{name}"
        return Stage(
            pipeline=name,
            name=stage_name,
            kind=kind,
            config=config,
            packages=packages,
            inputs={role: made.out for role, made in inputs.items()},
            input_stages={role: made.address for role, made in inputs.items()},
            out=f"outputs/{name}/{stage_name}",
            metrics=f"{folder}/metrics/{metrics}.json" if metrics else None,
            plots=f"{folder}/plots/{plots}.json" if plots else None,
        )

    torch, ran = _versions(*_TORCH), dict[str, str]()
    shared = {"base": base, "data": data}
    check = stage("check", "check", {"recipe": _without_cosmetic(recipe)}, {}, shared)
    check = replace(check, out=f"outputs/checks/{name}")
    train = stage(
        "train",
        "train",
        _typed(recipe.train),
        _versions(*METHODS[recipe.train.method].packages),
        shared,
        metrics="train",
        plots="train",
    )
    # Its order alone: an edit that reruns the checks and passes them must not retrain.
    train = replace(train, after={check.out: check.address})
    exports = {
        target: stage(
            f"export-{target}",
            "export",
            {"target": _typed(recipe.target[target])},
            torch | _versions(*PROVIDERS[recipe.target[target].execution_provider].packages),
            {"base": base, "data": data, "train": train},
        )
        for target in sorted(recipe.target)
    }

    def evaluate(artifact: str, packages: dict[str, str], inputs: dict[str, Stage]) -> Stage:
        config = {"artifact": artifact, "precision": recipe.train.precision, **measured}
        return stage(f"evaluate-{artifact}", "evaluate", config, packages, inputs, metrics=artifact)

    measured = {
        "metrics": list(recipe.eval.metrics),
        "max_new_tokens": recipe.eval.max_new_tokens,
        "limit": recipe.eval.limit,
        "seed": recipe.data.seed,
        "batch_size": recipe.eval.batch_size,
        "num_threads": recipe.train.num_threads,
        "task": recipe.data.task,
        "label": recipe.data.label,
        "label_steps": list(recipe.data.label_steps),
        "labelled": recipe.data.labelled,
    }
    evaluations: list[Stage] = []
    if recipe.eval.baselines:
        evaluations.append(evaluate("baselines", _versions("numpy"), {"data": data}))
    if recipe.eval.base_model:
        evaluations.append(evaluate("base", torch, {"data": data, "base": base}))
    evaluations.append(evaluate("torch", torch, {"data": data, "base": base, "train": train}))
    for target, export in exports.items():
        runs_on = _versions(*PROVIDERS[recipe.target[target].execution_provider].runs_on)
        evaluations.append(evaluate(target, runs_on, {"data": data, "export": export}))
        ran |= runs_on

    results = {evaluation.name: evaluation for evaluation in evaluations}
    gates = [_typed(gate) for gate in recipe.gates]
    # A fact about the weights, which are the same with it or without.
    shown = recipe.model_dump(
        mode="json", exclude={"track": True, "device": True, "model": {"parameters"}}
    )
    used = {**torch, **ran, **train.packages, **base.packages, **data.packages}
    report = stage(
        "report",
        "report",
        {
            "recipe": _without_cosmetic_training(shown),
            "name": name,
            "overrides": _telling(composed.overrides),
            "packages": dict(sorted(used.items())),
        },
        {},
        {"data": data, "train": train}
        | {f"export-{target}": export for target, export in exports.items()}
        | results,
    )
    # The record holds times, so it lies beside the weights' folder and not in it.
    report = replace(
        report,
        inputs={**report.inputs, "training": train.plots or ""},
        input_stages={**report.input_stages, "training": train.address},
    )
    # Behind the report, so that a failed gate leaves nothing unwritten. Its output is constant, so
    # that the root dvc.lock never differs between two pull requests.
    gate = stage("gate", "gate", {"gates": gates}, {}, {**results, "report": report})
    gate = replace(gate, out=f"outputs/gates/{name}")
    return (check, train, *exports.values(), *evaluations, report, gate)


def _telling(overrides: tuple[str, ...]) -> list[str]:
    """Overrides that are worth a new report: not those of what can change no result."""
    silent = {f"train.{name}" for name in _cosmetic_names(Train)} | {"model.parameters"}
    keys = {text: text.lstrip("+~").partition("=")[0] for text in overrides}
    return [
        text
        for text, key in keys.items()
        if key not in silent and key.partition(".")[0] not in {"track", "device"}
    ]


def _without_cosmetic(section: BaseModel) -> dict[str, Any]:
    """A section and all below it without cosmetic leaves, as JSON values."""
    return {
        key: _without_cosmetic(below) if isinstance(below, BaseModel) else value
        for key, value in _typed(section).items()
        for below in (getattr(section, key),)
    }


def _without_cosmetic_training(shown: dict[str, Any]) -> dict[str, Any]:
    """A change of log cadence is not worth a new report."""
    cosmetic = _cosmetic_names(Train)
    return shown | {"train": {k: v for k, v in shown["train"].items() if k not in cosmetic}}


def _typed(section: BaseModel) -> dict[str, Any]:
    """A section without its cosmetic leaves, as JSON values."""
    return section.model_dump(mode="json", exclude=set(_cosmetic_names(type(section))))


@cache
def _cosmetic_names(section: Any) -> frozenset[str]:
    return frozenset(
        name
        for name, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("cosmetic")
    )


def _cosmetic(recipe: Recipe) -> Mapping[str, Any]:
    """What ``exec`` may read beside a spec: settings that cannot change a result."""
    train = recipe.train.model_dump(mode="json", include=set(_cosmetic_names(type(recipe.train))))
    return {
        "train": train,
        "track": recipe.track.model_dump(mode="json"),
        "device": recipe.device.model_dump(mode="json"),
        "targets": list(recipe.target),
    }


def same_packages(plan: Plan) -> bool:
    """Whether the packages that a plan names are the ones that are installed now."""
    named = {name: found for stage in plan.stages() for name, found in stage.packages.items()}
    return named == _versions(*named)


def _versions(*names: str) -> dict[str, str]:
    installed = _last_installed()
    return {name: _version(name, installed) for name in names}


def _last_installed() -> tuple[int, ...]:
    """When something was last installed or removed: a package's folder is named by its version."""
    found: list[int] = []
    for folder in sys.path:
        with suppress(OSError):
            found.append(Path(folder).stat().st_mtime_ns)
    return tuple(found)


@lru_cache(maxsize=256)
def _version(name: str, _installed: tuple[int, ...]) -> str:
    try:
        # Not `version()`, which parses the whole of METADATA as an e-mail with all its long text.
        found = _VERSION.search(distribution(name).read_text("METADATA") or "")
        return (found[1] if found else version(name)).split("+")[0]
    except PackageNotFoundError as error:
        raise MissingError(
            f"the package {name} is not installed", "install slmcompile with its lock file"
        ) from error
