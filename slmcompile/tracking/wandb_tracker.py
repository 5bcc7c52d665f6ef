"""Weights & Biases. Offline unless the recipe says online; online falls back to offline.

The server, the key and the way to them come from the environment and ``~/.netrc``, and nothing else
does (``surroundings.py``): no project, run or folder of the shell, and no settings file of W&B's,
for the project's own ``wandb/settings`` could send the key to a stranger's server. An offline run
lies in the run's folder whole, so ``wandb sync <folder>/wandb/offline-*`` uploads it later.

Quirks worked around here (wandb 0.31.0):

* ``login`` prints before it looks at ``Settings.silent``; ``WANDB_SILENT`` in the environment is
  seen in time.
* Tables and artifacts are staged under the user's home, outside ``dir``; only ``WANDB_DATA_DIR``
  and ``WANDB_CACHE_DIR`` move that.
* ``init`` replaces ``sys.exit`` and ``sys.excepthook``; both are put back, since a tracker has no
  say in how the process ends.
* wandb-core reports its own errors to a public server and holds the end of the process for 20 s
  when that cannot be reached; ``WANDB_ERROR_REPORTING=false`` turns that off.
* Without a key and with a terminal ``init`` asks a question; so there is no online without a key.
* A settings file in ``./wandb`` is read whatever ``dir`` is, and one in the user's home; there is
  no option against it, so the method that reads them is taken out.
* What cannot be written to ``WANDB_DIR`` is written to the current folder.
"""

from __future__ import annotations

import json
import netrc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slmcompile.files.artifact import sha256_file
from slmcompile.machine.surroundings import leave_out_what_trackers_must_not_see
from slmcompile.recipe.schema import Track
from slmcompile.tracking.protocol import TrackedRun

_HOST = "https://api.wandb.ai"
INIT_SECONDS = 6.0
FINISH_SECONDS = 5.0


def _prepare_environment(folder: Path) -> tuple[str, ...]:
    """Leaves of the shell's settings the few that count; returns the names of the others."""
    ignored = leave_out_what_trackers_must_not_see()
    os.environ["WANDB_SILENT"] = "true"
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ["WANDB_DIR"] = str(folder)
    os.environ["WANDB_DATA_DIR"] = str(folder)
    os.environ["WANDB_CACHE_DIR"] = str(folder / "cache")
    os.environ["WANDB_CONFIG_DIR"] = str(folder / "config")
    return ignored


def _has_key(host: str) -> bool:
    """Whether the environment or ``~/.netrc`` has a key for a server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
        return netrc.netrc(file).authenticators(urlsplit(host).netloc) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False


def _without_settings_files(wandb: Any) -> None:
    """Has the library read none any more."""
    if not hasattr(wandb.Settings, "update_from_system_settings"):
        raise RuntimeError(f"wandb {wandb.__version__} is not known here; install the locked one")
    wandb.Settings.update_from_system_settings = lambda _: None


@contextmanager
def _exit_hooks_kept() -> Iterator[None]:
    kept = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = kept


def _settings(wandb: Any) -> Any:
    """What W&B may capture: configuration, curves, system metrics; no code, git, host or user."""
    return wandb.Settings(
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        sagemaker_disable=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        program="",
        program_relpath="",
        program_abspath="",
        host="hidden",
        username="hidden",
        email="",
        init_timeout=INIT_SECONDS,
        login_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        x_graphql_timeout_seconds=INIT_SECONDS / 2,
        x_graphql_retry_max=1,
    )


class WandbTracker:
    """One W&B run. Its methods may raise: ``GuardedTracker`` stands before it."""

    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb = wandb
        self._run = run

    @classmethod
    def open(cls, settings: Track, run: TrackedRun, warn: Callable[[str], None]) -> WandbTracker:
        """Starts a run; online at most ``INIT_SECONDS`` or so, then offline with one warning."""
        ignored = _prepare_environment(run.folder)
        if ignored:
            warn(f"note: W&B: {', '.join(ignored)} of the shell do not count; the recipe does")
        import wandb

        _without_settings_files(wandb)

        def start(mode: str) -> WandbTracker:
            with _exit_hooks_kept():
                opened = wandb.init(
                    mode=mode,  # type: ignore[arg-type]  # a Literal of more words than we use
                    project=settings.project,
                    name=run.name,
                    group=run.group,
                    job_type=run.job_type,
                    tags=list(settings.tags),
                    config=dict(run.config),
                    dir=str(run.folder),
                    settings=_settings(wandb),
                )
            return cls(wandb, opened)

        if settings.mode == "online":
            host = os.environ.get("WANDB_BASE_URL") or _HOST
            problem = f"WANDB_API_KEY is not set, and ~/.netrc has no key for {host}"
            if _has_key(host):
                try:
                    return start("online")
                except Exception as error:  # noqa: BLE001 -- whatever it is, offline works
                    problem = f"no connection ({type(error).__name__})"
            warn(f"warning: W&B: {problem}; recorded offline, `wandb sync` uploads it later")
        return start("offline")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One history row at W&B step ``step``."""
        self._run.log(dict(values), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A W&B table; every cell as text or number."""
        data = [[_cell(value) for value in row] for row in rows]
        # A column of W&B's has one type; ours may mix numbers, text and null.
        table = self._wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
        self._run.log({name: table})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values of the run's summary."""
        self._run.summary.update(dict(values))

    def artifact(self, name: str, kind: str, manifest_path: Path) -> None:
        """A W&B artifact that holds the manifest alone: the hash and size of every file."""
        digest = sha256_file(manifest_path)
        entry = self._wandb.Artifact(name, type=kind, metadata={"manifest_sha256": digest})
        entry.add_file(str(manifest_path), name="manifest.json")
        self._run.log_artifact(entry)
        self._run.summary.update({f"artifact/{name}": digest})

    def finish(self) -> None:
        """Ends the run; online waits at most ``FINISH_SECONDS`` for the upload."""
        self._run.finish()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
