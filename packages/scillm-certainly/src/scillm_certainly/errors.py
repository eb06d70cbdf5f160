"""What can go wrong around a check, as opposed to in the code that is checked."""

from __future__ import annotations

from scillm.errors import ProverError


class LeanMissingError(ProverError):
    """No Lean can be used here; the message says what to install."""


class QueueFullError(ProverError):
    """Too many checks are waiting. `.retry_after` is a fair number of seconds to wait."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
