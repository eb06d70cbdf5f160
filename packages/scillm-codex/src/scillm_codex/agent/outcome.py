"""What came of a run, for whoever asked for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from scillm.records import Json, Message

    from scillm_codex.agent.records import Call, ToolAnswer


@frozen(kw_only=True)
class Invocation:
    """One tool call that was carried out, for reports."""

    iteration: int
    call: Call
    answer: ToolAnswer
    took_s: float

    def to_dict(self, index: int) -> dict[str, Json]:
        """With the older names beside our own."""
        said = self.answer.text
        return {
            "iteration": self.iteration,
            "call_index": index,
            "tool_name": self.call.name,
            "name": self.call.name,
            "tool_call_id": self.call.id,
            "arguments": dict(self.call.arguments),
            "arguments_raw": json.dumps(self.call.arguments, ensure_ascii=False),
            "ok": self.answer.ok,
            "result": said,
            "error": None if self.answer.ok else said,
            "t_ms": round(self.took_s * 1000, 3),
            **self.answer.detail,
        }


@frozen(kw_only=True)
class Outcome:
    """A finished run. `usage` sums what the model's server counted; None where it did not."""

    run_id: str
    model: str
    stopped_reason: str
    final_answer: str
    messages: Sequence[Message]
    iterations: int
    usage: Mapping[str, int] | None
    cost_usd: float | None
    elapsed_s: float
    invocations: Sequence[Invocation] = ()
    used_model: str = ""
    """Who gave the last answer: `model`, or the one it escalated to."""
    escalated: bool = False
    thoughts: str = ""
    """What the model said before it went on working."""
    trace: Path | None = None
