"""What of the shell's environment variables a stage and its tracker see: the whole list.

A stage depends on its spec and its inputs, so what chooses kernels, arithmetic, backends or code is
taken away before a library reads it. What stays says where things are (caches, proxies,
certificates, tokens, servers) or how fast they go (threads, allocators); it changes no result.

A tracker learns its server, its key and the way to them from the environment, and may be switched
off by it. Project, run and all else are the recipe's to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_CHANGES_RESULTS = (
    "ACCELERATE_", "DNNL_", "FSDP_", "MKL_", "NPY_", "ONEDNN_", "OPENBLAS_CORETYPE", "ORT_",
    "PARALLELISM_CONFIG_", "PYTORCH_", "TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TRANSFORMERS_",
    "XLA_", "ATEN_CPU_CAPABILITY", "HF_DATASETS_TRUST_REMOTE_CODE", "LOCAL_RANK",
    "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "RANK", "TRUST_REMOTE_CODE",
    "USE_FLAX", "USE_HUB_KERNELS", "USE_JAX", "USE_TF", "USE_TORCH", "WORLD_SIZE",
)  # fmt: skip
"""Variables, and with an underscore at the end families of variables."""

_CHANGES_NO_RESULT = frozenset(
    {
        "DNNL_VERBOSE", "MKL_NUM_THREADS", "MKL_VERBOSE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
        "ONEDNN_VERBOSE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_HOME",
        "TORCH_SHOW_CPP_STACKTRACES", "TRANSFORMERS_CACHE", "TRANSFORMERS_NO_ADVISORY_WARNINGS",
        "TRANSFORMERS_OFFLINE", "TRANSFORMERS_VERBOSITY",
    }
)  # fmt: skip
"""Members of those families that stay."""

_OF_TRACKERS = frozenset(
    {
        "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_CREDENTIALS_FILE", "WANDB_IDENTITY_TOKEN_FILE",
        "WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_INSECURE_DISABLE_SSL", "WANDB__PROXIES",
        "WANDB__EXTRA_HTTP_HEADERS",
    }
)  # fmt: skip
"""What W&B may read: the server, the key and the way there."""

_SWITCHES = frozenset({"WANDB_MODE", "WANDB_DISABLED"})
_YES = frozenset({"1", "on", "true", "yes"})


def leave_out_what_changes_results() -> tuple[str, ...]:
    """Takes it from this process's environment, and so from its children's; returns the names."""
    return _forget(
        name
        for name in os.environ
        if name not in _CHANGES_NO_RESULT
        and any(
            name.startswith(each) if each.endswith("_") else name == each
            for each in _CHANGES_RESULTS
        )
    )


def leave_out_what_trackers_must_not_see() -> tuple[str, ...]:
    """Takes W&B's variables but for a few from this process's environment; returns the names."""
    return _forget(
        name for name in os.environ if name.startswith("WANDB_") and name not in _OF_TRACKERS
    )


def less_online(mode: str) -> str:
    """A tracker's mode, ``online`` or ``offline``, or what the environment makes less of it.

    ``WANDB_MODE=offline`` (or ``dryrun``) and ``disabled``, and ``WANDB_DISABLED=true``, are how a
    build machine is kept from the network; they never make more of it.
    """
    asked = os.environ.get("WANDB_MODE", "").lower()
    if asked == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in _YES:
        return "disabled"
    return "offline" if asked in {"offline", "dryrun"} else mode


def _forget(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(sorted(names))
    for name in found:
        del os.environ[name]
    return tuple(name for name in found if name not in _SWITCHES)
