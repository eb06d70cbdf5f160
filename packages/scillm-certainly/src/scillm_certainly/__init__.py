"""Certainly: Lean 4 proofs checked by a kernel, twice, with verdicts that say what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm_certainly.engine import CertainlyEngine
    from scillm_certainly.pool.pool import Checker, Pool, Size
    from scillm_certainly.pool.resident import Resident
    from scillm_certainly.provider import Certainly
    from scillm_certainly.records import CheckRequest, Policy, ProofVerdict
    from scillm_certainly.verifier import LeanVerifier

_HOMES = {
    "Certainly": "scillm_certainly.provider",
    "CertainlyEngine": "scillm_certainly.engine",
    "CheckRequest": "scillm_certainly.records",
    "Checker": "scillm_certainly.pool.pool",
    "LeanVerifier": "scillm_certainly.verifier",
    "Policy": "scillm_certainly.records",
    "Pool": "scillm_certainly.pool.pool",
    "ProofVerdict": "scillm_certainly.records",
    "Resident": "scillm_certainly.pool.resident",
    "Size": "scillm_certainly.pool.pool",
}

__all__ = [
    "Certainly",
    "CertainlyEngine",
    "CheckRequest",
    "Checker",
    "LeanVerifier",
    "Policy",
    "Pool",
    "ProofVerdict",
    "Resident",
    "Size",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
