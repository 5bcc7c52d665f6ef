"""A loss that is code of the project: executed here, and held to what it has to return.

The contract is docs/losses.md. What the code raises, or returns otherwise, is told as its own
fault, with its file and line, and fails the stage.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch.nn import functional

from slmcompile.console.errors import StageFailedError
from slmcompile.console.printable import printable, shortened
from slmcompile.data.store import Row
from slmcompile.losses.python import PythonLoss
from slmcompile.training.losses.positions import Positions
from slmcompile.training.losses.program import Losses, Trained

_MODULE = "slmcompile_project_loss"
_MEND = "correct the file, or choose another train.loss.type"
_LONGEST = 200


class _PythonLoss:
    """The project's loss.

    Args:
        keys: the recipe's section.
        project: folder that ``keys.file`` is relative to.

    Raises:
        StageFailedError: the file cannot be executed, or its object cannot be made (exit 1).
    """

    plain = False

    def __init__(self, keys: PythonLoss, project: Path) -> None:
        self._keys = keys
        self._path = project / keys.file
        self._called: Any = None
        # Whether gradients are recorded is as it was when the code is done.
        with torch.enable_grad():
            made: Any = getattr(self._executed(project), keys.name, None)
            if not callable(made):
                self._fault(f"{keys.name} cannot be called")
            try:
                self._called = made(**keys.options)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the project's code, not ours
                self._raised(error)
        if not callable(self._called):
            self._fault(f"{keys.name}(…) is a {type(self._called).__name__} and cannot be called")
        module = isinstance(self._called, torch.nn.Module)
        if module and next(self._called.parameters(), None) is not None:
            self._fault(f"{keys.name} has parameters of its own, which nothing would train")
        self._probed = False

    def __call__(self, trained: Trained) -> Losses:
        if self._keys.sees == "batch":
            logits = trained.logits()
            # First, as the code may write into what it is given.
            compared = _nats(logits.detach(), trained.targets)
            with torch.enable_grad():
                losses = self._losses(logits, trained.targets, trained.positions)
            self._require_gradient(losses)
            if logits.requires_grad:
                watch: Any = logits.register_hook  # untyped in torch
                watch(self._require_finite_slope)
            return Losses(losses, compared)
        nats: list[torch.Tensor] = []

        def of_chunk(
            given: torch.Tensor, part: slice, wanted: bool
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            targets, positions = trained.targets[part], trained.positions[part]
            nats.append(_nats(given, targets))
            with torch.enable_grad():
                logits = given.detach().requires_grad_()
                losses = self._losses(logits, targets, positions)
                slope = self._slope_of(losses, logits)
            return losses.detach(), slope if wanted else None

        return Losses(trained.by_chunk(of_chunk), torch.cat(nats))

    def _executed(self, project: Path) -> ModuleType:
        """The file as a module that nothing else can import, and that imports nothing beside it.

        Modules of the project would be inputs that no fingerprint knows: of the folders that Python
        imports from, those in the project are taken out for as long as the process lives.
        """
        sys.path[:] = [each for each in sys.path if not _lies_in(project, each)]
        module = ModuleType(_MODULE)
        module.__file__ = str(self._path)
        # Dataclasses look their module up by its name.
        sys.modules[_MODULE] = module
        try:
            code = compile(self._path.read_bytes(), str(self._path), "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102 - what the policy allows and the plan has told
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the project's code, not ours
            self._raised(error)
        return module

    def _losses(
        self, logits: torch.Tensor, targets: torch.Tensor, positions: Positions
    ) -> torch.Tensor:
        """What the code returns, if it is a loss of each position."""
        try:
            losses = self._called(logits, targets, positions)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the project's code, not ours
            self._raised(error)
        if not isinstance(losses, torch.Tensor):
            self._fault(f"returned a {type(losses).__name__}, not a tensor")
        if losses.shape != targets.shape:
            shapes = f"{list(losses.shape)}, not {list(targets.shape)}"
            self._fault(f"returned a loss of shape {shapes}: one for each position")
        if losses.dtype != logits.dtype or losses.device != logits.device:
            kinds = f"{losses.dtype} on {losses.device}, not {logits.dtype} on {logits.device}"
            self._fault(f"returned a loss in {kinds}")
        wrong = ~torch.isfinite(losses.detach())
        # Where the logits are none either, it is training that diverged, and that is told so.
        if wrong.any() and torch.isfinite(logits.detach()).all():
            at = int(wrong.nonzero()[0])
            value, target = float(losses.detach()[at]), int(targets[at])
            row, place = int(positions.row[at]), int(positions.place[at])
            self._fault(
                f"returned {value} for trained token {place} of row {row} of the micro-batch"
                f" (target {target}), where all logits are finite"
            )
        return losses

    def _slope_of(self, losses: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The slope of each loss by its own logits, [positions, vocabulary].

        Raises:
            StageFailedError: there is none, or losses that have to be independent are not.
        """
        self._require_gradient(losses)
        probe = not self._probed and len(losses) > 1
        slope = self._slope(losses.sum(), logits, keep=probe)
        if torch.isfinite(logits).all():
            self._require_finite_slope(slope)
        if probe:
            self._probed = True
            self._require_independent(losses, logits)
        return slope

    def _require_gradient(self, losses: torch.Tensor) -> None:
        if not losses.requires_grad:
            self._fault("returned a loss without a gradient: it does not depend on the logits")

    def _require_finite_slope(self, slope: torch.Tensor) -> None:
        if not torch.isfinite(slope).all():
            self._fault("returned a loss whose gradient is not finite, where it is itself")

    def _require_independent(self, losses: torch.Tensor, logits: torch.Tensor) -> None:
        """That the first position's loss depends on its own logits alone."""
        slope = self._slope(losses[0], logits, keep=False)
        if bool(slope[1:].any()):
            self._fault(
                "returned losses that depend on the logits of other positions, of which a call"
                " sees a chunk",
                "set train.loss.sees to batch, which takes the memory of all logits of a"
                " micro-batch, or let each position's loss depend on its own logits",
            )

    def _slope(self, of: torch.Tensor, logits: torch.Tensor, *, keep: bool) -> torch.Tensor:
        try:
            (slope,) = torch.autograd.grad(of, logits, retain_graph=keep, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            self._raised(error)
        if slope is None:
            self._fault("returned a loss that does not depend on the logits")
        found: torch.Tensor = slope
        return found

    def _raised(self, error: BaseException) -> NoReturn:
        """Fails by what the code raised, at the line of the file that it came through last."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self._path)]
        message = shortened(printable(str(error)), _LONGEST)
        line = next((each for each in reversed(lines) if each), None)
        self._fault(f"{type(error).__name__}: {message}", line=line, cause=error)

    def _fault(
        self,
        fault: str,
        mend: str = _MEND,
        *,
        line: int | None = None,
        cause: BaseException | None = None,
    ) -> NoReturn:
        at = line or _line_of(self._called, str(self._path))
        where = f"{self._keys.file}:{at}" if at else self._keys.file
        raise StageFailedError(f"train: {where}: {self._keys.name}: {fault}", mend) from cause


def _lies_in(project: Path, folder: str) -> bool:
    """Whether a folder of ``sys.path`` is the project's, and no environment's within it."""
    place = Path(folder or ".").resolve()
    installed = {"site-packages", "dist-packages"} & {*place.parts}
    within = place.is_relative_to(project.resolve()) and not place.is_relative_to(sys.prefix)
    return within and not installed


def _nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def _line_of(called: Any, path: str) -> int | None:
    """The line at which the code that is called begins, where that is in the file."""
    kind = type(called)
    for function in (called, *(getattr(kind, name, None) for name in ("forward", "__call__"))):
        code = getattr(inspect.unwrap(function), "__code__", None) if function else None
        if code is not None and code.co_filename == path:
            return int(code.co_firstlineno)
    return None


def python_file(keys: PythonLoss, _rows: Sequence[Row], project: Path) -> _PythonLoss:
    """See ``program.OpenedLoss``."""
    return _PythonLoss(keys, project)
