"""What the figures were measured on, in words."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def processor() -> str:
    """The processor's name, and which of the instructions that bf16 lives by it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = set((re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE) or ["", ""])[1].split())
    has = [word for flag, word in _TOLD.items() if flag in flags]
    return (name[1] if name else platform.machine()) + (f" ({', '.join(has)})" if has else "")


_TOLD = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
