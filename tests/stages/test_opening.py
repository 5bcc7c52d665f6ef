"""Opening a model: what is stored in 16 bits is not in memory beside what it becomes in 32."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slmcompile.models.merge import load_merged
from tests.family_folders import make_family
from tests.stages.tiny_training import make_tokenizer

OPENED = """
import json, sys
from pathlib import Path
from slmcompile.machine.process import prepare_to_compute
prepare_to_compute()
from slmcompile.models.merge import load_merged

def resident(key):
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

load_merged(Path(sys.argv[1]), None)
before = resident("VmRSS")
model = load_merged(Path(sys.argv[2]), None)
print(json.dumps([before, resident("VmHWM")]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_base_in_16_bits_takes_the_room_of_its_32_and_not_its_own_besides(
    tmp_path: Path,
) -> None:
    folders, tokenizer = [], make_tokenizer()
    for name, width in (("small", 64), ("large", 4096)):
        folder = make_family(
            "Llama", tmp_path / name, tokenizer,
            hidden_size=width // 4, intermediate_size=width, num_hidden_layers=6,
        )  # fmt: skip
        load_merged(folder, None).to(torch.bfloat16).save_pretrained(folder)
        folders.append(folder)
    stored = (folders[1] / "model.safetensors").stat().st_size
    assert stored > 100e6
    done = subprocess.run(
        [sys.executable, "-c", OPENED, *map(str, folders)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak = json.loads(done.stdout.splitlines()[-1])
    assert peak - before < 2.5 * stored, "2 of it are the weights in 32 bits"
