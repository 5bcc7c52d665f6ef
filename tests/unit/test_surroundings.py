"""A stage sees of the shell what says where and how fast, and nothing that says what."""

from __future__ import annotations

import os

import pytest

from slmcompile.machine.surroundings import leave_out_what_changes_results

CHANGING = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TORCH_MKLDNN_MATMUL_MIN_DIM": "1",
    "TRANSFORMERS_SDPA_FORCE_GQA": "1",
    "USE_HUB_KERNELS": "1",
    "WORLD_SIZE": "2",
}
STAYING = {
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_ENDPOINT": "https://hub.example",
    "HF_HOME": "/cache",
    "HF_HUB_OFFLINE": "1",
    "HTTPS_PROXY": "http://proxy.example",
    "OMP_NUM_THREADS": "2",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "RANKING": "no family of ours",
    "SSL_CERT_FILE": "/certificates",
    "TRANSFORMERS_OFFLINE": "1",
}


def test_what_changes_results_is_taken_away_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", CHANGING | STAYING)
    assert leave_out_what_changes_results() == tuple(sorted(CHANGING))
    assert os.environ == STAYING
    assert leave_out_what_changes_results() == ()
