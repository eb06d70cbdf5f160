"""CodeWorld: run every code variant for real, compare its answers outside, rank what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm_codeworld.engine.jobs import CodeWorldEngine
    from scillm_codeworld.provider import CodeWorld
    from scillm_codeworld.tasks import code_task
    from scillm_codeworld.verifier import CodeVerifier

_HOMES = {
    "CodeWorldEngine": "scillm_codeworld.engine.jobs",
    "CodeWorld": "scillm_codeworld.provider",
    "CodeVerifier": "scillm_codeworld.verifier",
    "code_task": "scillm_codeworld.tasks",
}

__all__ = ["CodeVerifier", "CodeWorld", "CodeWorldEngine", "code_task"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
