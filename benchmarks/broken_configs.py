"""Who notices a broken fine-tuning configuration, when, and with which exit code.

One small job and ten ways to break it (``peers/cases.py``), each given to Olive, LLaMA-Factory,
Axolotl and slmcompile. Every tool must accept the control, or what it says of the rest means
nothing. Prints Markdown and saves nothing but the work folder, where every peer gets an environment
of its own (about 9 GB, ten minutes) that later runs use again.

    python benchmarks/broken_configs.py --work ~/peers
    python benchmarks/broken_configs.py --work ~/peers --tools slmcompile --cases 0 4 5
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from peers.cases import CASES, Case
from peers.inputs import make_inputs
from peers.install import install, version
from peers.running import complaint, failure, run
from peers.tools import TOOLS, Tool

BEFORE, LOADED, TRAINING, NEVER, UNDECIDED = (
    "before any model load",
    "model loading or loaded, no step yet",
    "during training",
    "never",
    "not in its time",
)


@dataclass(frozen=True)
class Result:
    """What a tool did with a case.

    Attributes:
        phase: one of those above.
        command: the command that noticed, or the last one.
        seconds: from the start of the first command to the end of that one.
        code: its exit code; ``None`` where its time ran out.
        message: what it said; for ``never`` a complaint that the control did not draw, or "".
        names: whether the message names the defect.
        output: all that it printed.
    """

    phase: str
    command: str
    seconds: float
    code: int | None
    message: str
    names: bool
    output: str

    @property
    def short(self) -> str:
        """For the overview."""
        if self.phase == NEVER:
            return "never, exit 0" + (" (a line says so)" if self.message else "")
        code = "killed" if self.code is None else f"exit {self.code}"
        return f"{self.phase}, {self.seconds:.1f} s, {code}"


def main() -> int:
    """Runs all that is asked for and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for environments and runs")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--cases", nargs="+", type=int, default=[case.number for case in CASES])
    parser.add_argument("--memory", type=float, default=4, help="GiB a process may have")
    parser.add_argument("--timeout", type=float, default=180, help="seconds a command may take")
    args = parser.parse_args()

    work = args.work.expanduser().resolve()
    memory = int(args.memory * 2**30)
    make_inputs(work / "inputs", memory)
    print(_heading(args.memory, args.timeout))
    results: dict[str, list[Result]] = {}
    cases = [case for case in CASES if case.number == 0 or case.number in args.cases]
    for key in args.tools:
        tool = TOOLS[key]
        programs, problem = install(key, tool.package, work / "environments")
        if problem:
            print(f"- {tool.name}: not installed: {problem}")
            continue
        print(f"- {version(tool.package, programs)}", flush=True)
        found: list[Result] = []
        for case in cases:
            found.append(_judge(tool, case, work, programs, memory, args.timeout, found[:1]))
            print(f"{tool.name}: {case.name}: {found[-1].short}", file=sys.stderr, flush=True)
        results[key] = found
    print(_overview(cases, results))
    for key, found in results.items():
        print(_details(TOOLS[key], cases, found))
    return 0 if all(found[0].phase == NEVER for found in results.values()) else 1


def _judge(
    tool: Tool,
    case: Case,
    work: Path,
    programs: Path,
    memory: int,
    timeout: float,
    control: list[Result],
) -> Result:
    """Gives one case to one tool, in a folder made anew."""
    folder = work / "runs" / tool.name / str(case.number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _place(case, work / "inputs", folder)
    environment = {
        "HOME": str(work),
        "HF_HOME": str(folder / "hf"),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
    } | tool.environment
    seconds, output = 0.0, ""
    for command in tool.commands(case.job, folder, programs):
        if command.prepare:
            command.prepare()
        ended = run(command.words, folder, environment, memory, timeout)
        seconds, output = seconds + ended.seconds, output + ended.output
        if ended.code != 0:
            break
    (folder / "output.txt").write_text(output, encoding="utf-8")
    if ended.code is None:
        phase, message = UNDECIDED, ""
    elif ended.code != 0:
        phase = BEFORE
        if re.search(tool.training, ended.output):
            phase = TRAINING
        elif re.search(tool.loading, ended.output):
            phase = LOADED
        message = failure(ended.output)
    else:
        phase = NEVER
        message = complaint(output, control[0].output, case.culprit) if control else ""
    names = bool(case.culprit and re.search(case.culprit, message))
    _forget(folder)
    return Result(phase, command.label, seconds, ended.code, message, names, output)


def _place(case: Case, inputs: Path, folder: Path) -> None:
    """The case's base model and rows as hard links, for the large model's sake."""
    shutil.copytree(inputs / case.job.base, folder / case.job.base, copy_function=os.link)
    os.link(inputs / f"{case.job.rows}.jsonl", folder / f"{case.job.rows}.jsonl")


def _forget(folder: Path) -> None:
    """Everything but what was said: a copy of a large model is not kept."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _heading(memory: float, timeout: float) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"""# Ten broken configurations

{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC; {model}, {os.cpu_count()} cores, {ram:.0f} GiB, \
load {os.getloadavg()[0]:.1f} at the start; {platform.system()}, Python \
{platform.python_version()}; no GPU, no network; {memory:g} GiB of private \
memory a process (`ulimit -d`), one thread, {timeout:g} s a command at most.
"""


def _overview(cases: list[Case], results: dict[str, list[Result]]) -> str:
    names = [TOOLS[key].name for key in results]
    lines = ["", _row(["", "defect, the one difference from the control", *names])]
    lines.append(_row(["---"] * (len(names) + 2)))
    for place, case in enumerate(cases):
        cells = [found[place].short for found in results.values()]
        if case.number == 0:
            cells = [
                f"accepted, {found[0].seconds:.1f} s" if found[0].phase == NEVER else "REFUSED"
                for found in results.values()
            ]
        lines.append(_row([f"{case.number} {case.name}", case.defect, *cells]))
    lines.append(
        "\nSeconds are from the start of the tool's first command to the end of the one that "
        "noticed. *never* is exit 0 with the defect in place; *a line says so*: exit 0, but a "
        "line of the output that the control does not have names the defect."
    )
    broken = [place for place, case in enumerate(cases) if case.number]
    for name, found in zip(names, results.values(), strict=True):
        early = sum(found[place].phase == BEFORE for place in broken)
        late = sum(found[place].phase in {LOADED, TRAINING} for place in broken)
        never = sum(found[place].phase == NEVER for place in broken)
        lines.append(
            f"\n{name}: {early} of {len(broken)} before any model load, {late} later, "
            f"{never} never, {len(broken) - early - late - never} not in its time."
        )
    return "\n".join(lines)


def _details(tool: Tool, cases: list[Case], found: list[Result]) -> str:
    lines = [f"\n## {tool.name}\n", *(f"- {note}" for note in tool.notes), ""]
    lines.append(_row(["case", "noticed", "by", "seconds", "exit", "names it", "message"]))
    lines.append(_row(["---"] * 7))
    for case, result in zip(cases, found, strict=True):
        code = "–" if result.code is None else str(result.code)
        name = "" if not result.message else "yes" if result.names else "no"
        message = result.message[:220].replace("`", "'")
        row = [f"{case.number} {case.name}", result.phase, result.command]
        row += [f"{result.seconds:.1f}", code, name, f"`{message}`" if message else ""]
        lines.append(_row(row))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
