"""`scillm.extras.codex`: the helper `codex` of the registry, importable as a module."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'scillm.extras.codex' has no attribute {name!r}")
    import scillm.extras

    # The package's own lookup: the attribute `codex` of the package is this very module.
    return getattr(scillm.extras.__getattr__("codex"), name)
