"""What is said about retries outside the call: JSON lines on stderr, and callbacks kept apart."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger("scillm.retry")

ALSO = (
    "reason",
    "attempt_start_monotonic",
    "remaining_time_s",
    "remaining_attempts",
    "cumulative_sleep_s",
)
"""What the callbacks are told, and the first SciLLM's lines did not say."""


class RetryLog:
    """Writes every n-th retry and every give-up as a JSON line, when asked to."""

    def __init__(self, *, as_json: bool = False, every: int = 1) -> None:
        self._as_json = as_json
        self._every = max(1, every)

    def retry(self, told: Mapping[str, Any]) -> None:
        """One line per `every` retries of a call."""
        if self._as_json and told["attempt"] % self._every == 0:
            self._write(
                {
                    "event": told["event"],
                    "model": told["model"],
                    "attempt": told["attempt"],
                    "sleep_s": round(told["next_sleep_s"], 3),
                    "elapsed_s": round(told["elapsed_s"], 3),
                    "retry_after_s": told["retry_after"],
                    **_also(told),
                }
            )

    def give_up(self, told: Mapping[str, Any]) -> None:
        """One line per given-up call."""
        if self._as_json:
            self._write(
                {
                    "event": told["event"],
                    "model": told["model"],
                    "attempts": told["attempts"],
                    "elapsed_s": round(told["elapsed_s"], 3),
                    "error": told["last_error"],
                    "why": told["why"],
                    **_also(told),
                }
            )

    def guarded(
        self, callback: Callable[[Mapping[str, Any]], object], told: Mapping[str, Any]
    ) -> None:
        """Call a callback; what it raises is logged and does not end the call it only watches."""
        try:
            callback(told)
        except Exception:  # the caller's code; a broken watcher must not cost a paid answer
            log.exception("a retry callback raised")

    def _write(self, line: Mapping[str, Any]) -> None:
        # stdout belongs to the program's results.
        sys.stderr.write(json.dumps(line, separators=(",", ":")) + "\n")
        sys.stderr.flush()


def _also(told: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: told[name] for name in ALSO if name in told}
    return {n: round(value, 3) if isinstance(value, float) else value for n, value in found.items()}
