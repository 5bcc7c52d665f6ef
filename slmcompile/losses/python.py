"""A loss of the project's own: a Python file that the policy allows and ``exec`` alone executes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from slmcompile.console.printable import shortened
from slmcompile.losses.keys import LossKeys
from slmcompile.losses.loss import Loss
from slmcompile.registry.scalars import ProjectPath

_Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,79}$")]
_Value = bool | int | float | Annotated[str, StringConstraints(max_length=1000)] | None
_Option = _Value | Annotated[tuple[_Value, ...], Field(max_length=1000)]


class PythonLoss(LossKeys):
    """Code of the project, which the policy must allow; docs/losses.md says what is asked of it."""

    file: ProjectPath = Field(
        description="Python file of the project that has it: `losses/mine.py`. A plan reads it as"
        " text; training executes it. It imports installed packages alone."
    )
    name: _Identifier = Field(description="Class, or function that makes one, in that file.")
    options: dict[_Identifier, _Option] = Field(
        default_factory=dict, max_length=64, description="What it is made with: {margin: 0.5}."
    )
    sees: Literal["positions", "batch"] = Field(
        "positions",
        description="What one call is given: positions, a chunk of them, each with a loss of its"
        " own; or batch, all of a micro-batch, whose losses may depend on one another.",
    )


def _words(values: Mapping[str, Any]) -> str:
    options: Mapping[str, Any] = values.get("options") or {}
    told = ", ".join(f"{name} {shortened(str(options[name]), 40)}" for name in sorted(options))
    return f"{values.get('name')} of {values.get('file')}" + (f" ({told})" if told else "")


ENTRIES = (
    Loss(
        name="python",
        place=30,
        section=PythonLoss,
        program="slmcompile.training.losses.python_file:python_file",
        words=_words,
        code="file",
        whole_batch=lambda loss: loss.sees == "batch",
    ),
)
