"""A statement and keys that are the same in every test."""

from __future__ import annotations

import hashlib
from typing import Any

from slmcompile.provenance.statement import GateResult, StageResult, Statement


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def stage(name: str, kind: str, manifest: str, size: int = 100) -> StageResult:
    md5 = hashlib.md5(name.encode()).hexdigest()
    return StageResult(name, kind, sha(name), manifest, f"{md5}.dir", size)


def statement(**changed: Any) -> Statement:
    """Of a pull request that trains ``tiny``."""
    values: dict[str, Any] = {
        "recipe": "tiny",
        "effective": sha("effective"),
        "digest": sha("digest"),
        "head": "1" * 40,
        "base": "2" * 40,
        "pull_request": 12,
        "approver": "octo",
        "tool": "0.1.0",
        "packages": {"torch": "2.13.0", "peft": "0.21.2"},
        "materials": {"recipes/tiny.yaml": sha("recipe"), "data/tiny/commands.csv": sha("rows")},
        "stages": (
            stage("base-1a2b3c4d/base", "base", sha("base")),
            stage("tiny/train", "train", sha("train")),
            stage("tiny/export-cpu-int8", "export", sha("export"), 2**33),
            stage("tiny/gate", "gate", "", 0),
        ),
        "subjects": {
            "train/adapter/adapter_model.safetensors": sha("adapter"),
            "export-cpu-int8/model.onnx": sha("onnx"),
        },
        "gates": (GateResult("exact_match of cpu-int8 is 0.9, bar ≥ 0.8", passed=True),),
        "metrics": {"cpu-int8": {"exact_match": 0.9, "perplexity": 1.0130}, "base": {}},
    }
    return Statement(**{**values, **changed})


def private_pem(number: int = 1) -> bytes:
    """A key to sign with; equal numbers give equal keys."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(number: int = 1) -> bytes:
    """The key to verify with that belongs to it."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(private_pem(number), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
