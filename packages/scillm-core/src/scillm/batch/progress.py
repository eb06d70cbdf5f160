"""How far a batch is, and how long the rest will take. Pure."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Progress:
    """Counts of one run. Every item of the input is counted in one of the first five."""

    answered: int = 0
    failed: int = 0
    """Without an answer, with a stated reason."""
    skipped: int = 0
    """Answered, or stated as failed, by an earlier run."""
    duplicates: int = 0
    """Not asked: the id came before in the same input."""
    dropped: int = 0
    """In flight when the run was stopped, and not waited for any longer."""
    in_flight: int = 0
    stopping: bool = False
    """No new item is taken; those in flight are finished."""

    @property
    def done(self) -> int:
        """Items this run has dealt with."""
        return self.answered + self.failed


def rate_per_s(done: int, elapsed_s: float) -> float:
    """Items per second; 0 before the first."""
    return done / elapsed_s if done and elapsed_s > 0 else 0.0


def left_s(done: int, left: int, elapsed_s: float) -> float | None:
    """Seconds until the last item, at the rate so far; None before the first."""
    rate = rate_per_s(done, elapsed_s)
    return left / rate if rate else None


def duration_text(seconds: float | None) -> str:
    """`1d02h`, `1h02m`, `2m05s`, `7s`, or `?`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"
