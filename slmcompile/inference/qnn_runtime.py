"""onnxruntime's QNN provider, registered in one place, and the sessions that it or the CPU's run.

The package onnxruntime-qnn brings the vendor's compiler for its neural processor (HTP), and on
x86-64 a simulator of it. The vendor's library prints a line on standard output when it is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmcompile.console.errors import MissingError

PROVIDER = "QNNExecutionProvider"
_SILENT = 4
"""onnxruntime's level of what is logged: what ends the process alone."""


def devices() -> list[Any]:
    """What the provider can run graphs on; a processor of the vendor's first.

    Raises:
        MissingError: the package is not installed (exit 69).
    """
    import onnxruntime as ort

    try:
        import onnxruntime_qnn
    except ImportError as error:
        raise MissingError(
            f"onnxruntime-qnn cannot be imported: {error}", "pip install 'slmcompile[qnn]'"
        ) from error
    found = _registered(ort)
    if not found:
        try:
            with _stdout_apart():
                ort.register_execution_provider_library(
                    PROVIDER, onnxruntime_qnn.get_library_path()
                )
        except Exception as error:  # onnxruntime's own have no base but this
            raise MissingError(
                f"onnxruntime-qnn cannot be loaded: {error}",
                "pip install 'slmcompile[qnn]' on x86-64 Linux or on a device with the processor",
            ) from error
        found = _registered(ort)
    return sorted(found, key=lambda each: not is_npu(each))


def is_npu(device: Any) -> bool:
    """Whether it is a processor of the vendor's, and not what simulates one."""
    import onnxruntime as ort

    return bool(device.device.type == ort.OrtHardwareDeviceType.NPU)


def _registered(ort: Any) -> list[Any]:
    return [each for each in ort.get_ep_devices() if each.ep_name == PROVIDER]


def on_qnn(
    path: str | Path, arch: int, settings: Mapping[str, str], *, threads: int | None = None
) -> Any:
    """A session of the QNN provider.

    Args:
        path: a graph, or one that was compiled.
        arch: generation of the processor.
        settings: entries of the session's configuration.
        threads: of what is not computed there.
    """
    import onnxruntime as ort

    told = _options(ort, settings, threads)
    # Inputs and outputs are integers: there is nothing to round on the CPU.
    provider = {"backend_type": "htp", "htp_arch": str(arch), "offload_graph_io_quantization": "0"}
    chosen = devices()[:1]
    told.add_provider_for_devices(chosen, provider)
    with _stdout_apart():
        return ort.InferenceSession(str(path), told)


def on_cpu(path: Path, threads: int | None, *, spinning: bool) -> Any:
    """A session of the CPU provider over a rounded graph.

    Weights are turned into fp32 once and not at every step, which onnxruntime does where it looks
    for no integer products; of 16 bits it has none.
    """
    import onnxruntime as ort

    settings = {"session.disable_quant_qdq": "1"}
    if not spinning:
        settings["session.intra_op.allow_spinning"] = "0"
    told = _options(ort, settings, threads)
    return ort.InferenceSession(str(path), told, providers=["CPUExecutionProvider"])


def _options(ort: Any, settings: Mapping[str, str], threads: int | None) -> Any:
    told = ort.SessionOptions()
    told.log_severity_level = _SILENT
    if threads is not None:
        told.intra_op_num_threads, told.inter_op_num_threads = threads, 1
    for key, value in settings.items():
        told.add_session_config_entry(key, value)
    return told


@contextmanager
def _stdout_apart() -> Iterator[None]:
    """What native code prints on standard output goes nowhere: an answer may be read from there."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
