"""The mini-agent's words: what bounds a run, what happens in it, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.records import Json, Message

SUCCESS = "success"
MAX_ITERATIONS = "max_iterations"
MAX_SECONDS = "max_seconds"
MAX_TOKENS = "max_tokens"
MAX_COST = "max_cost"
UNKNOWN_COST = "unknown_cost"
FORMAT_ERRORS = "format_errors"
TOOL_FAILED = "tool_failed"
TRUNCATED = "truncated"
REFUSED = "refused"

REASONS = (
    SUCCESS,
    MAX_ITERATIONS,
    MAX_SECONDS,
    MAX_TOKENS,
    MAX_COST,
    UNKNOWN_COST,
    FORMAT_ERRORS,
    TOOL_FAILED,
    TRUNCATED,
    REFUSED,
)
"""Why a run stopped. Only `success` comes with an answer the model meant as its last."""


@frozen(kw_only=True)
class AgentLimits:
    """What bounds one run. None is no bound."""

    max_iterations: int = 6
    """Questions to the model."""
    max_seconds: float | None = 180.0
    max_tokens: int | None = None
    """Prompt and answer tokens of all questions together, as the model's server counts them."""
    max_cost_usd: float | None = None
    max_format_errors: int = 3
    """Answers in a row that are neither text nor a usable tool call."""
    max_calls: int = 8
    """Tool calls carried out of one answer; the others are told to come again."""
    repair: bool = True
    """Whether the model may go on after a tool has failed."""
    run_code_blocks: bool = False
    """Whether a fenced code block in an answer without tool calls is run as a call."""
    escalate: bool = False
    """Whether one last question, without tools, follows when `max_iterations` are used up."""


@frozen(kw_only=True)
class ToolSpec:
    """A tool as the model sees it. `parameters` is a JSON Schema, handed on untouched."""

    name: str
    description: str = ""
    parameters: Mapping[str, Json] = field(factory=dict)

    def to_openai(self) -> dict[str, Json]:
        """The form of OpenAI's `tools`."""
        function: dict[str, Json] = {"name": self.name, "parameters": dict(self.parameters)}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function}


@frozen(kw_only=True)
class ToolAnswer:
    """What a tool gave. `detail` is for traces, and never shown to the model."""

    text: str
    ok: bool = True
    detail: Mapping[str, Json] = field(factory=dict)


# -- what happens ------------------------------------------------------------------------------


@frozen(kw_only=True)
class Heard:
    """The model answered."""

    message: Message
    finish_reason: str | None = None
    tokens: int = 0
    cost_usd: float | None = None
    """None where nobody knows what it cost."""
    elapsed_s: float = 0.0
    """Since the run began."""


@frozen(kw_only=True)
class Answered:
    """A tool call was carried out, once."""

    id: str
    text: str
    ok: bool = True
    elapsed_s: float = 0.0


@frozen(kw_only=True)
class Expired:
    """The time was used up while the model, or a tool, was at work."""

    elapsed_s: float


Happening: TypeAlias = Heard | Answered | Expired


# -- what to do --------------------------------------------------------------------------------


@frozen(kw_only=True)
class Question:
    """Ask the model. `last` says that it gets no tools any more."""

    messages: Sequence[Message]
    last: bool = False


@frozen(kw_only=True)
class Call:
    """Carry out one tool call, exactly once."""

    id: str
    name: str
    arguments: Mapping[str, Json]


@frozen(kw_only=True)
class Stop:
    """The run is over."""

    reason: str
    answer: str


Action: TypeAlias = Question | Call | Stop
