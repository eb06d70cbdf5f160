"""The levels of isolation: their order, and whether one is good enough. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from scillm.errors import SandboxError, UsageError

L1 = "L1"
L2 = "L2"
L3 = "L3"
L4 = "L4"
CONTAINER = "container"
WASM = "wasm"
"""Beside the order of the others: as strong as its runtime, on any host, with an exact cost."""

LEVELS = (L1, L2, L3, L4)
"""From the weakest to the strongest."""

NAMES = {
    L1: "L1 limited",
    L2: "L2 filtered",
    L3: "L3 confined",
    L4: "L4 confined + cgroup",
    CONTAINER: "container",
    WASM: "wasm",
}


def level_of(word: str, *, name: str) -> str:
    """`word` as a level (`l3` and `L3 confined` will do); `UsageError` when it is none."""
    if word.strip().lower() == WASM:
        return WASM
    level = word.strip().upper().split(" ")[0]
    if level not in LEVELS:
        raise UsageError(f"{name} must be one of {', '.join(LEVELS)} or {WASM}, but is {word!r}.")
    return level


def strictest(asked: str | None, configured: str | None) -> str | None:
    """The stronger of two requirements, so that a job cannot lower what its host requires.

    `wasm` cannot be compared with the others: where one of the two asks for it, the other must ask
    for it too, or for nothing. Raises `SandboxError` otherwise.
    """
    floors = [
        level_of(word, name=name)
        for word, name in (
            (asked, "The required isolation"),
            (configured, "SCILLM_CODEWORLD_ISOLATION"),
        )
        if word
    ]
    if WASM in floors:
        if any(floor != WASM for floor in floors):
            raise refused(" and ".join(floors), ["wasm and the levels L1 to L4 cannot be compared"])
        return WASM
    return max(floors, key=LEVELS.index, default=None)


def candidates(*, require: str | None, prefer: str | None) -> Sequence[str]:
    """The levels to try, the strongest first.

    Without a wish that is L3 downwards: L4 adds groups to the host's own tree, so it is tried only
    when it is named. A preference is a ceiling, a requirement is a floor, and the floor wins.
    """
    floor = LEVELS.index(require) if require else 0
    ceiling = max(floor, LEVELS.index(prefer if prefer else L3))
    return tuple(reversed(LEVELS[floor : ceiling + 1]))


def refused(require: str, reasons: Sequence[str]) -> SandboxError:
    """The error for a host that does not give what is required."""
    why = "; ".join(reasons) or "nothing was tried"
    return SandboxError(
        f"Isolation {NAMES.get(require, require)} or better is required, but this host does not "
        f"give it, so no code is run. {why}. Run `scillm doctor`, or lower "
        "SCILLM_CODEWORLD_ISOLATION if you trust the code."
    )
