"""A turn as it comes in: notifications to pieces of an answer. No clock, no process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import ContextWindowExceededError
from scillm.models import Function, ToolCall, Usage

from scillm_codex.sidecar.failures import error_of

if TYPE_CHECKING:
    from scillm.errors import ProviderError
    from scillm.records import Json

COMPACTING = (
    "The messages do not fit into the model's context window; Codex began to summarise them, and "
    "the answer would have been to the summary. Send less."
)


@frozen(kw_only=True)
class Piece:
    """Something new to say."""

    text: str = ""
    thought: str = ""


@frozen(kw_only=True)
class Ended:
    """The end of a turn as far as we are concerned."""

    reason: str
    """`stop`, `tool_calls`, or `interrupted`."""
    calls: Sequence[ToolCall] = ()
    usage: Usage | None = None
    error: ProviderError | None = None
    running: bool = False
    """Codex still waits for something, and must be interrupted."""


class Turn:
    """Reads the notifications of one turn. Remembers what was said, asked for and used up.

    `tools` are the client's; a model response that calls one of them ends the turn.
    """

    def __init__(self, turn_id: str, *, tools: frozenset[str], one_call: bool = False) -> None:
        self._id = turn_id
        self._tools = tools
        self._one_call = one_call
        self._phases: dict[str, str] = {}
        self._shown: dict[str, int] = {}
        self._thoughts: dict[str, int] = {}
        self._calls: list[ToolCall] = []
        self._usage: Usage | None = None
        self._used = dict.fromkeys(_COUNTS, 0)

    def read(self, note: Mapping[str, Json]) -> list[Piece | Ended]:
        """What a notification brings: pieces, or the end."""
        params = note.get("params") or {}
        if params.get("turnId", self._id) != self._id:
            return []
        method = note.get("method")
        handler = _HANDLERS.get(str(method))
        return [] if handler is None else handler(self, params)

    def _started(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        item = params["item"]
        if item["type"] == "contextCompaction":
            error = ContextWindowExceededError(COMPACTING, provider="codex", status_code=400)
            return [Ended(reason="stop", error=error, running=True)]
        self._phases[item["id"]] = item.get("phase") or ""
        return []

    def _delta(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        return self._say(params["itemId"], params["delta"])

    def _thought(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        item = params["itemId"]
        self._thoughts[item] = self._thoughts.get(item, 0) + len(params["delta"])
        return [Piece(thought=params["delta"])] if params["delta"] else []

    def _completed(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        item = params["item"]
        if item["type"] == "agentMessage":
            self._phases.setdefault(item["id"], item.get("phase") or "")
            return self._say(item["id"], item["text"][self._shown.get(item["id"], 0) :])
        if item["type"] == "reasoning" and not self._thoughts.get(item["id"]):
            text = "\n\n".join(_texts(item.get("summary")) or _texts(item.get("content")))
            return [Piece(thought=text)] if text else []
        return []

    def _say(self, id: str, text: str) -> list[Piece | Ended]:
        if not text:
            return []
        self._shown[id] = self._shown.get(id, 0) + len(text)
        # What is said on the way to an answer is not the answer.
        if self._phases.get(id) == "commentary":
            return [Piece(thought=text)]
        return [Piece(text=text)]

    def _raw_item(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        item = params["item"]
        if item.get("type") == "function_call" and item.get("name") in self._tools:
            function = Function(name=item["name"], arguments=item.get("arguments") or "{}")
            call = ToolCall(
                id=item["call_id"], type="function", function=function, index=len(self._calls)
            )
            self._calls.append(call)
        return []

    def _raw_end(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        used = params.get("usage")
        if isinstance(used, Mapping):
            self._used = {name: self._used[name] + int(used.get(name) or 0) for name in _COUNTS}
            self._usage = _usage(self._used)
        if not self._calls:
            return []
        calls = self._calls[:1] if self._one_call else self._calls
        return [Ended(reason="tool_calls", calls=tuple(calls), usage=self._usage, running=True)]

    def _asked(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        """A call that no response of the model showed: Codex's own JavaScript made it."""
        known = {call.id for call in self._calls}
        if params.get("tool") not in self._tools or params["callId"] in known:
            return []
        arguments = json.dumps(params.get("arguments") or {}, ensure_ascii=False)
        call = ToolCall(
            id=params["callId"],
            type="function",
            function=Function(name=params["tool"], arguments=arguments),
            index=0,
        )
        return [Ended(reason="tool_calls", calls=(call,), usage=self._usage, running=True)]

    def _total(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        if self._usage is None:
            # A fresh thread's running total is what this turn used.
            self._usage = _usage(params["tokenUsage"]["total"])
        return []

    def _ended(self, params: Mapping[str, Json]) -> list[Piece | Ended]:
        turn = params["turn"]
        if turn["id"] != self._id:
            return []
        if turn.get("error") or turn["status"] == "failed":
            return [Ended(reason="stop", error=error_of(turn.get("error") or {}))]
        reason = "stop" if turn["status"] == "completed" else "interrupted"
        return [Ended(reason=reason, usage=self._usage)]


def _usage(used: Mapping[str, Json]) -> Usage:
    prompt, completion = int(used["inputTokens"]), int(used["outputTokens"])
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details={"cached_tokens": int(used.get("cachedInputTokens") or 0)},
        completion_tokens_details={"reasoning_tokens": int(used.get("reasoningOutputTokens") or 0)},
    )


def added(first: Usage | None, second: Usage | None) -> Usage | None:
    """Two turns' usage together; None when one is not known."""
    if first is None or second is None:
        return None
    prompt = (first.prompt_tokens or 0) + (second.prompt_tokens or 0)
    completion = (first.completion_tokens or 0) + (second.completion_tokens or 0)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=_both(first.prompt_tokens_details, second.prompt_tokens_details),
        completion_tokens_details=_both(
            first.completion_tokens_details, second.completion_tokens_details
        ),
    )


def _both(first: Json, second: Json) -> dict[str, Json]:
    return {name: (first or {}).get(name, 0) + number for name, number in (second or {}).items()}


def _texts(parts: Json) -> list[str]:
    found = [part.get("text") if isinstance(part, Mapping) else part for part in parts or ()]
    return [text for text in found if isinstance(text, str) and text]


_COUNTS = ("inputTokens", "cachedInputTokens", "outputTokens", "reasoningOutputTokens")
_HANDLERS = {
    "item/started": Turn._started,
    "item/agentMessage/delta": Turn._delta,
    "item/reasoning/summaryTextDelta": Turn._thought,
    "item/reasoning/textDelta": Turn._thought,
    "item/completed": Turn._completed,
    "rawResponseItem/completed": Turn._raw_item,
    "rawResponse/completed": Turn._raw_end,
    "item/tool/call": Turn._asked,
    "thread/tokenUsage/updated": Turn._total,
    "turn/completed": Turn._ended,
}
