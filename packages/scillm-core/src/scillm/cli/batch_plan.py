"""What `scillm batch run` was asked to do, and how it ended."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from scillm.batch.progress import Progress
    from scillm.records import Json

CREDENTIALS = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")


@frozen(kw_only=True)
class Plan:
    """What was asked on the command line."""

    in_path: Path
    out_path: Path
    model: str | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout_s: float | None = None
    retry: bool = True
    retry_failed: bool = False
    budget_usd: float | None = None
    budget_tokens: int | None = None
    budget_requests: int | None = None
    input_price: float | None = None
    output_price: float | None = None

    def again(self, *, retry_failed: bool) -> str:
        """The command line that goes on with this batch."""
        given = {
            "-m": self.model,
            "--api-base": self.api_base,
            "--api-key-env": self.api_key_env,
            "--concurrency": self.concurrency,
            "--timeout": self.timeout_s,
            "--budget-usd": self.budget_usd,
            "--budget-tokens": self.budget_tokens,
            "--budget-requests": self.budget_requests,
            "--input-price": self.input_price,
            "--output-price": self.output_price,
        }
        words = ["scillm", "batch", "run", str(self.in_path), str(self.out_path)]
        for name, value in given.items():
            words += [] if value is None else [name, str(value)]
        flags = {"--no-retry": not self.retry, "--retry-failed": retry_failed}
        return shlex.join([*words, *(flag for flag, given in flags.items() if given)])

    def about(self, requests: int) -> dict[str, Json]:
        """What the journal says about this run."""
        return {
            "input": str(self.in_path),
            "requests": requests,
            "model": self.model,
            "api_base": CREDENTIALS.sub("***", self.api_base) if self.api_base else None,
            "concurrency": self.concurrency,
            "retry_failed": self.retry_failed,
            "budget_usd": self.budget_usd,
            "budget_tokens": self.budget_tokens,
            "budget_requests": self.budget_requests,
        }


@frozen(kw_only=True)
class Ended:
    """How a run ended. `answered` and `failed` are those of the whole batch."""

    requests: int
    answered: int
    failed: int
    progress: Progress
    spent: Mapping[str, int]
    """Of the whole batch: requests, tokens, picodollars."""
    is_written: bool
    """Whether the output is there."""
    reason: str = ""
    """Why it ended early."""
    resume: str = ""
    exit_code: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every request has its answer."""
        return self.answered == self.requests
