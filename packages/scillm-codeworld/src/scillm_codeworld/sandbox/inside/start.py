"""Starts a zygote. Run by path, by an interpreter that knows nothing of the package."""

from __future__ import annotations

import sys


def know_the_package() -> None:
    """Make `scillm_codeworld.sandbox…` importable without running the packages' own modules.

    Those need libraries which an interpreter without site-packages does not have.
    """
    # Only now: beside this file lies a `numbers.py`, which the library's own must not be taken for.
    from pathlib import Path
    from types import ModuleType

    folder = Path(__file__).resolve().parents[2]
    for name, place in (
        ("scillm_codeworld", folder),
        ("scillm_codeworld.sandbox", folder / "sandbox"),
    ):
        module = ModuleType(name)
        module.__path__ = [str(place)]
        sys.modules[name] = module


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # -P keeps the script's folder off the path from 3.11 on
        del sys.path[0]
    know_the_package()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    from scillm_codeworld.sandbox.inside import zygote

    zygote.main(int(sys.argv[1]))
