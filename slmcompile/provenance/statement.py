"""What is stated of a finished run, and its form: an in-toto Statement with SLSA provenance.

The specifications are in-toto's Statement v1.1 with its ResourceDescriptor and DigestSet
(https://github.com/in-toto/attestation/tree/main/spec/v1) and SLSA's provenance v1.1
(https://slsa.dev/spec/v1.1/provenance). Equal outputs give equal bytes: there is no time, no host
and no path of a machine in it. A statement that is read may be a stranger's, so every text, list
and number in it has a bound, and it must be written again to the very bytes that were read: what a
reader does not know cannot hide in it. Knows nothing of projects and of signatures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from slmcompile.console.errors import CorruptError, StaleError
from slmcompile.files.strict_json import decoder
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.limits import is_bounded
from slmcompile.registry.scalars import Identifier, Sha256

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "pkg:pypi/slmcompile#run/v1"
BY_HAND = "pkg:pypi/slmcompile#by-hand/v1"
BY_PULL_REQUEST = "pkg:pypi/slmcompile#pull-request/v1"
"""URIs of what a run is and of who lets it run; docs/provenance.md says what they stand for."""

LARGEST = (3 << 20) - (12 << 10)
"""Bytes of a statement: its envelope is 4 MiB at the most, as much as is read out of git."""

MADE_AGAIN = "run the recipe, then `slmcompile attest`"
_PASSED = "cGFzc2Vk"  # base64 of "passed": all there is to say of a stage that only passes
_DEEPEST = 8
_MOST_VALUES = 150_000
_MOST_FILES = 20_000
_MOST_STAGES = 4096
_LARGEST_NUMBER = 2**63
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME = r"[a-z0-9][a-z0-9_-]{0,199}"


def _path(text: str) -> str:
    if {"", ".", ".."} & set(text.split("/")) or _UNPRINTED.search(text):
        raise ValueError("no path below a folder")
    return text


def _line(text: str) -> str:
    if _UNPRINTED.search(text):
        raise ValueError("not one line")
    return text


def _kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError("no kind of stage")
    return name


Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(_line)]
Path = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_path)]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.!+_-]{1,64}$")]
Package = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,199}/[a-z0-9][a-z0-9_-]{0,199}$")
]
Artifact = Annotated[str, StringConstraints(pattern=rf"^{_NAME}(/{_NAME})?$")]
Metric = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
Number = Annotated[int | float, Field(ge=-_LARGEST_NUMBER, le=_LARGEST_NUMBER)]


@dataclass(frozen=True)
class StageResult:
    """One stage of the plan, and what it made.

    Attributes:
        stage: its address, ``R/train``.
        kind: as in plans.
        fingerprint: of the plan: what its result depends on.
        manifest: SHA-256 of the bytes of its ``manifest.json``, which has those of all its files;
            empty of a kind that only passes.
        object: what DVC calls its output, ``<md5>.dir``.
        size: bytes of its output, with the manifest.
    """

    stage: Address
    kind: Annotated[str, AfterValidator(_kind)]
    fingerprint: Sha256
    manifest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
    object: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{32}\.dir)?$")]
    size: Annotated[int, Field(ge=0, lt=_LARGEST_NUMBER)]


@dataclass(frozen=True)
class GateResult:
    """One bar, as people read it, and whether it was met."""

    text: Line
    passed: bool


@dataclass(frozen=True)
class Statement:
    """What is stated of a finished run.

    Attributes:
        recipe: its name.
        effective: SHA-256 of the whole effective recipe.
        digest: what an approver has said yes to; None of a run that nobody was asked for.
        head: the commit that was trained.
        base: the commit that it was compared with.
        pull_request: its number.
        approver: who approved it; empty for nobody.
        tool: version of slmcompile.
        packages: versions of the packages that change a stage's numbers.
        materials: SHA-256 of the project's files that the run was made from, by path.
        stages: all of the plan, shared ones too, in its order.
        subjects: SHA-256 of every file of what was trained and exported, by ``folder/file``.
        gates: every bar.
        metrics: what was measured, by artifact; of one adapter of several by ``adapter/artifact``.
    """

    recipe: Identifier
    effective: Sha256
    digest: Sha256 | None
    head: Commit | None
    base: Commit | None
    pull_request: Annotated[int, Field(ge=1, lt=_LARGEST_NUMBER)] | None
    approver: Line
    tool: Version
    packages: Annotated[dict[Package, Version], Field(max_length=500)]
    materials: Annotated[dict[Path, Sha256], Field(max_length=_MOST_FILES)]
    stages: Annotated[tuple[StageResult, ...], Field(min_length=1, max_length=_MOST_STAGES)]
    subjects: Annotated[dict[Path, Sha256], Field(min_length=1, max_length=_MOST_FILES)]
    gates: Annotated[tuple[GateResult, ...], Field(max_length=1000)]
    metrics: Annotated[
        dict[Artifact, Annotated[dict[Metric, Number], Field(max_length=100)]],
        Field(max_length=1000),
    ]

    def stage(self, name: str) -> StageResult:
        """A stage by its address, or by what its folder is called here.

        Raises:
            KeyError: there is none.
        """
        for each in self.stages:
            if name in {each.stage, folder_name(self.recipe, each.stage)}:
                return each
        raise KeyError(name)


def folder_name(recipe: str, address: str) -> str:
    """What a stage's output is called in subjects.

    ``train`` of the recipe's own, and the pipeline of one that recipes share, whose stages have
    one name.
    """
    pipeline, _, name = address.partition("/")
    return name if pipeline == recipe else pipeline


def to_json(statement: Statement) -> dict[str, Any]:
    """The document. Lists that SLSA calls unordered are sorted by name."""
    asked = {
        "digest": statement.digest,
        "head": statement.head,
        "base": statement.base,
        "pullRequest": statement.pull_request,
    }
    told = {"slmcompile_approver": statement.approver} if statement.approver else {}
    return {
        "_type": STATEMENT,
        "subject": _descriptors(statement.subjects),
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": statement.recipe,
                    "effective": statement.effective,
                    **{key: value for key, value in asked.items() if value is not None},
                },
                "internalParameters": {
                    "tool": statement.tool,
                    "packages": dict(statement.packages),
                },
                "resolvedDependencies": _descriptors(statement.materials),
            },
            "runDetails": {
                "builder": {"id": BY_HAND if statement.pull_request is None else BY_PULL_REQUEST},
                "byproducts": [_byproduct(each) for each in statement.stages],
                **told,
                "slmcompile_gates": [
                    {"text": each.text, "passed": each.passed} for each in statement.gates
                ],
                "slmcompile_metrics": {
                    name: dict(values) for name, values in statement.metrics.items()
                },
            },
        },
    }


def _descriptors(files: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)]


def _byproduct(each: StageResult) -> dict[str, Any]:
    made = {"digest": {"sha256": each.manifest}} if each.manifest else {"content": _PASSED}
    return {
        "name": each.stage,
        **made,
        "annotations": {
            "fingerprint": each.fingerprint,
            "kind": each.kind,
            "object": each.object,
            "size": each.size,
        },
    }


def written(statement: Statement) -> bytes:
    """The bytes that are signed: compact JSON with sorted keys.

    Raises:
        ValueError: a text is no Unicode, or a number not finite.
    """
    text = json.dumps(
        to_json(statement),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode("utf-8")


_STATEMENT = TypeAdapter(Statement)


def checked(statement: Statement) -> Statement:
    """The same, if it is one that ``read`` takes.

    Raises:
        ValueError: a text is longer than may be, a path leads elsewhere, …
    """
    return read(written(statement), statement.recipe)


def read(data: bytes, shown: str) -> Statement:
    """A statement that anybody may have written.

    Args:
        data: its bytes.
        shown: what messages call it.

    Raises:
        CorruptError: it is none, or not to the byte what this version writes (exit 74).
        StaleError: of a version of the form that is not known here (exit 4).
    """
    if len(data) > LARGEST:
        raise CorruptError(f"{shown}: larger than {LARGEST} bytes", MADE_AGAIN)
    try:
        content = decoder().decode(data.decode("utf-8"))
        build_type = str(content["predicate"]["buildDefinition"]["buildType"])
        of_slsa = (content["_type"], content["predicateType"]) == (STATEMENT, PROVENANCE)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptError(f"{shown}: not a statement", MADE_AGAIN) from error
    ours, _, _ = BUILD_TYPE.rpartition("/")
    if of_slsa and build_type != BUILD_TYPE and build_type.startswith(f"{ours}/"):
        raise StaleError(
            f"{shown}: of the form {build_type[-20:]}; this version reads {BUILD_TYPE}",
            "use the slmcompile version that wrote it",
        )
    if not is_bounded(content, _DEEPEST, _MOST_VALUES):
        raise CorruptError(f"{shown}: too deep, or too much", MADE_AGAIN)
    try:
        flat = json.dumps(_flat(content), allow_nan=False)
        statement = _STATEMENT.validate_json(flat, strict=True)
        same = written(statement) == data and _is_sound(statement)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptError(f"{shown}: not a statement", MADE_AGAIN) from error
    if not same:
        raise CorruptError(f"{shown}: not as slmcompile writes it", MADE_AGAIN)
    return statement


def _is_sound(statement: Statement) -> bool:
    """Whether every stage is there once, and all that make something have a manifest."""
    once = len({each.stage for each in statement.stages}) == len(statement.stages)
    return once and all(
        bool(each.manifest) != KINDS[each.kind].constant for each in statement.stages
    )


def _flat(content: Any) -> dict[str, Any]:
    """The fields of a ``Statement`` out of the document; what is left over shows in its bytes."""
    definition = content["predicate"]["buildDefinition"]
    details = content["predicate"]["runDetails"]
    outer, inner = definition["externalParameters"], definition["internalParameters"]
    return {
        "recipe": outer["recipe"],
        "effective": outer["effective"],
        "digest": outer.get("digest"),
        "head": outer.get("head"),
        "base": outer.get("base"),
        "pull_request": outer.get("pullRequest"),
        "approver": details.get("slmcompile_approver", ""),
        "tool": inner["tool"],
        "packages": inner["packages"],
        "materials": _digests(definition["resolvedDependencies"]),
        "stages": [
            {
                "stage": each["name"],
                "manifest": each["digest"]["sha256"] if "digest" in each else "",
                **{key: each["annotations"][key] for key in _ANNOTATED},
            }
            for each in details["byproducts"]
        ],
        "subjects": _digests(content["subject"]),
        "gates": details["slmcompile_gates"],
        "metrics": details["slmcompile_metrics"],
    }


_ANNOTATED = ("fingerprint", "kind", "object", "size")


def _digests(descriptors: Any) -> dict[str, Any]:
    return {each["name"]: each["digest"]["sha256"] for each in descriptors}
