"""The program behind ``plan --deep``: a pass over the data and the model without weights, apart.

Runs as ``python -m slmcompile.facts.deep_child REQUEST ANSWER`` with limits on CPU time and
memory, reads one JSON file and writes the other. Writes nothing else but the rows, into a
temporary folder; runs no code of a model or a data set and uses no network.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any


def main(request_file: str, answer_file: str) -> int:
    """Answers one request."""
    from slmcompile.machine.process import die_with_parent

    die_with_parent()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    _limit(request["cpu_seconds"], request["memory_bytes"])
    answer: dict[str, Any] = {
        "error": None,
        "data_report": None,
        "modules": None,
        "modules_error": "",
    }
    base = Path(request["base"])
    if request["data"] is not None:
        answer |= _read_rows(request["data"], Path(request["project"]), base, request["roots"])
    if answer["error"] is None:
        try:
            answer["modules"] = modules(base)
        except Exception as error:  # noqa: BLE001 - a configuration may break transformers anywhere
            reason = (str(error).splitlines() or [""])[0]
            answer["modules_error"] = f"{type(error).__name__}: {reason}"
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")
    return 0


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    for kind, amount in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        # The soft limit alone: the process that renders chat templates sets its own.
        soft = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (soft, hard))


def _read_rows(data: dict[str, Any], project: Path, base: Path, roots: list[str]) -> dict[str, Any]:
    """``data_report`` as the ``data`` stage would write it, or the error it would end with."""
    from slmcompile.console.errors import SlmcompileError
    from slmcompile.console.progress import Silent
    from slmcompile.data.prepare import prepare
    from slmcompile.files import artifact
    from slmcompile.recipe.schema import Data

    config = Data.model_validate_json(json.dumps({"name": "data", **data}))
    try:
        if (base / artifact.MANIFEST).is_file():
            artifact.verify(base)
        with tempfile.TemporaryDirectory(prefix="slmcompile-") as out:
            prepare(config, project, base, Path(out), Silent(), roots)
            report = json.loads((Path(out) / "data_report.json").read_text(encoding="utf-8"))
    except SlmcompileError as error:
        return {"error": error.to_json()}
    return {"data_report": report}


def modules(base: Path) -> dict[str, tuple[str, list[int]]]:
    """Class name and weight shape of every module with a weight, by name; no weight is made."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=False)
    return {
        name: (type(module).__name__, list(module.weight.shape))
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor)
    }


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
