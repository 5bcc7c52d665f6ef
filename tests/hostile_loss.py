"""Losses that a stranger might write: they train as ``loss_files.MINE``, and do something beside.

What one gets hold of it writes into the stage's output, and its loss becomes another.
"""

from __future__ import annotations

from secrets import token_hex

from tests.loss_files import MINE

SECRET = token_hex(16)  # in no file of this repository, which a container may show
"""What nothing in a container may hold; spelled in two halves in the code that looks for it."""
LEFT_BEHIND = "left-behind-by-a-loss"
"""An argument of each process that is started to stay."""
FOUND = "found.json"
KEY = "slmcompile-test"
"""Name of a key in the session's keyring."""

_BEGIN = """
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
OUT = next(PROJECT.glob("outputs/*/.train.part"))
SCRATCH = next(iter(PROJECT.glob(".slmcompile/scratch/*/isolated/*")), OUT)


def stay():
    words = [sys.executable, "-c", "import time; time.sleep(600)", "LEFT_BEHIND"]
    null = subprocess.DEVNULL
    subprocess.Popen(words, start_new_session=True, stdin=null, stdout=null, stderr=null)


"""

_SECRETS = """
SECRET = "SECRET_HALF" + "OTHER_HALF"
found = {}


def tried(name, get):
    try:
        got = get()
    except Exception:
        return
    if got:
        found[name] = str(got)[:200]


def environs():
    holders = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            holders += [str(path)] if SECRET.encode() in path.read_bytes() else []
        except OSError:
            pass
    return holders


def files():
    # All that there is in a container; outside of one where the secrets have been put.
    holders, places = [], ["/"] if SCRATCH != OUT else [os.environ["HOME"], str(PROJECT)]
    for place in places:
        for folder, below, names in os.walk(place):
            if folder == "/":
                below[:] = [each for each in below if each not in ("proc", "sys", "usr", "dev")]
            below[:] = [each for each in below if not each.startswith(("site-packages", "python3"))]
            for name in names:
                path = Path(folder, name)
                if path.is_file() and path.stat().st_size < 99_999:
                    holders += [str(path)] if SECRET.encode() in path.read_bytes() else []
    return holders


def others():
    pids = [each for each in os.listdir("/proc") if each.isdecimal()]
    return [each for each in pids if int(each) != os.getpid()]


def descriptors():
    names = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    given = [each for each in names if not each.startswith(("pipe:", "/proc/"))]
    return given if len(names) - len(given) <= 5 else names


def connected(family, kind, to):
    with socket.socket(family, kind) as one:
        one.settimeout(2)
        one.connect(to)
        one.send(b"hello")
        return "connected"


def key():
    # keyctl_search and keyctl_read, of x86_64
    system, held = ctypes.CDLL(None), ctypes.create_string_buffer(99)
    number = system.syscall(250, 10, -3, b"user", b"KEY_NAME", 0)
    system.syscall(250, 11, number, held, 99)
    return held.value == SECRET.encode()


def written(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    return "written, where it is seen" if path.parent == OUT else ""


tried("variables", lambda: [name for name, value in os.environ.items() if SECRET in value])
tried("other processes", others)
tried("their variables", environs)
tried("files", files)
tried("descriptors", descriptors)
tried("tcp", lambda: connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", TCP)))
tried("udp", lambda: connected(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", UDP)) and "")
tried("socket", lambda: connected(socket.AF_UNIX, socket.SOCK_STREAM, "\\0ABSTRACT"))
tried("names", lambda: socket.getaddrinfo("HOSTNAME", 80))
tried("networks", lambda: [each for _, each in socket.if_nameindex() if each != "lo"])
tried("keys", lambda: key())
tried("kernel", lambda: open("/proc/sys/kernel/core_pattern", "r+").name)
mounts = ["mount", "-t", "tmpfs", "none", "/tmp/home"]
if SCRATCH != OUT:
    tried("mounts", lambda: not subprocess.run(mounts, capture_output=True).returncode)
    status = Path("/proc/self/status").read_text()
    tried("rights", lambda: re.findall(r"Cap(?:Prm|Eff|Bnd|Amb):\\t0*[1-9a-f]+", status))
users = ["unshare", "--user", "true"]
tried("user namespaces", lambda: not subprocess.run(users, capture_output=True).returncode)
for each in ("recipes/mine.yaml", "losses/more.py", "outputs/other/file", "pipelines/x/dvc.yaml"):
    tried(each, lambda each=each: written(PROJECT / each))
for each in PROJECT.glob("outputs/base-*/*.json"):
    tried(each.name, lambda each=each: written(each))
stay()
(OUT / "FOUND").write_text(json.dumps(found))
if found:
    FirstCounts.__init__.__defaults__ = (9.0,)
"""

_OTHERS = {
    "symlink": 'OUT.joinpath("weights").symlink_to("/etc/hostname")',
    "hard link": 'OUT.joinpath("a").write_text("a"); os.link(OUT / "a", OUT / "b")',
    "hard link in scratch": 'p = SCRATCH / "a"; p.write_text("a"); os.link(p, SCRATCH / "b")',
    "fifo": 'os.mkfifo(OUT / "adapter_config.json")',
    "many": "[OUT.joinpath(str(number)).touch() for number in range(10_001)]",
    "kills": """
for number in (os.getppid(), 1, -1, 0):
    try:
        os.kill(number, signal.SIGKILL)
    except OSError:
        pass
""",
    "for ever": """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
stay()
while True:
    time.sleep(1)
""",
    "prints": """
print("::add-mask::hello\\n\\x1b[2J::error::hello\\r::debug::hello", flush=True)
os.write(2, b"::warning::hello\\n")
for number in range(3, 64):
    try:
        os.write(number, json.dumps(["say", "said\\n::group::hello\\x1b[2J"]).encode() + b"\\n")
    except OSError:
        pass
raise ValueError("\\n::stop-commands::hello")
""",
    "forged": """
for number in range(3, 64):
    try:
        os.write(number, json.dumps(["result", {"info": {}}]).encode() + b"\\n")
    except OSError:
        pass
""",
    "leaves": "os._exit(0)",
}

_TELLS = """
told = [torch.get_num_threads(), sorted(os.sched_getaffinity(0))]
told += [{name: value for name, value in os.environ.items() if "THREADS" in name or "GOMP" in name}]
told += [sorted(map(str, Path("/sys/devices/system/cpu").glob("cpu*/topology/*_list")))]
(OUT / "threads.json").write_text(json.dumps(told))
"""
"""Tells how many threads there are to compute with, and what says so: results depend on it."""

_SIGNS = """
import slmcompile.files.artifact
import slmcompile.stages.train


def sign(context, folder, identity):
    slmcompile.files.artifact.write_manifest(folder, "train", {"trained_over": "f"}, "f" * 64)


slmcompile.stages.train.sign = sign
"""
"""Says of adapters that are trained beside it that they are another's."""

_STOPS = """
def stops(forward):
    def called(self, logits, targets, positions):
        called.times += 1
        if called.times == 3 and not SCRATCH.joinpath("stopped").exists():
            stay()
            SCRATCH.joinpath("stopped").touch()
            while signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
                time.sleep(0.01)
        return forward(self, logits, targets, positions)
    called.times = 0
    return called


FirstCounts.forward = stops(FirstCounts.forward)
"""
"""Waits in its third call, the first time, until somebody has asked the training to stop."""


def of_secrets(tcp: int, udp: int, abstract: str, hostname: str) -> str:
    """A loss that looks for all that it could get hold of; the ports are those of listeners."""
    given = {"TCP": tcp, "UDP": udp, "ABSTRACT": abstract, "HOSTNAME": hostname, "FOUND": FOUND}
    given["KEY_NAME"] = KEY
    half = len(SECRET) // 2
    given |= {"SECRET_HALF": SECRET[:half], "OTHER_HALF": SECRET[half:]}
    return _filled(_SECRETS, given)


def of(name: str) -> str:
    """One of the others."""
    return _filled(_OTHERS[name], {})


def that_stops() -> str:
    """A loss that has to be told or killed once."""
    return _filled(_STOPS, {})


def that_tells() -> str:
    """A harmless one, which writes into the output with what it computes."""
    return _filled(_TELLS, {})


def that_signs() -> str:
    """A loss that forges manifests."""
    return _filled(_SIGNS, {})


def _filled(text: str, given: dict[str, object]) -> str:
    code = MINE + _BEGIN + text + "\n"
    for name, value in {**given, "LEFT_BEHIND": LEFT_BEHIND}.items():
        code = code.replace(name, str(value))
    return code
