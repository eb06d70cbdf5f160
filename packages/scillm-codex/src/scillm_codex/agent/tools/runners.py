"""What runs a program for the agent, and how what came out is told."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen


@frozen(kw_only=True)
class Ran:
    """What a program did. `status` is ok, failed, timeout or refused."""

    status: str
    stdout: str = ""
    stderr: str = ""
    reason: str = ""
    held_by: str = ""
    """What kept it in, as observed."""


class Runner(Protocol):
    """Runs programs, each in a place of its own."""

    @property
    def languages(self) -> tuple[str, ...]:
        """What it can run here."""
        ...

    @property
    def held_by(self) -> str:
        """What keeps programs in, for people and for the model."""
        ...

    async def run(self, language: str, code: str, *, timeout_s: float) -> Ran:
        """Run one program; never raises for anything it does."""
        ...


def told(ran: Ran) -> str:
    """What the model reads."""
    parts = [ran.stdout.rstrip("\n")] if ran.stdout.strip() else []
    if ran.stderr.strip():
        parts.append(f"[stderr]\n{ran.stderr.rstrip()}")
    if ran.status != "ok":
        parts.append(f"Error: {ran.reason or ran.status}")
    return "\n".join(parts) or "(the program printed nothing)"
