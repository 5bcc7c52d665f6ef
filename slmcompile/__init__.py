"""Compile, plan and run fine-tuning recipes for small language models.

>>> import slmcompile
>>> plan = slmcompile.plan("quickstart", ["train.learning_rate=5e-4"])
>>> [f"{change.stage.address}: {change.action}" for change in plan.changes]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmcompile.api import PlannedRun, RunResult, apply, compile, plan, run
    from slmcompile.console.errors import SlmcompileError

__version__ = "0.1.0"
__all__ = [
    "PlannedRun",
    "RunResult",
    "SlmcompileError",
    "__version__",
    "apply",
    "compile",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `slmcompile --help` and `exec` do not pay for Hydra.
    if name == "SlmcompileError":
        from slmcompile.console.errors import SlmcompileError

        return SlmcompileError
    if name in __all__:
        from slmcompile import api

        return getattr(api, name)
    raise AttributeError(f"module 'slmcompile' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
