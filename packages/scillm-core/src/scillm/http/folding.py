"""Folding: the chunks of a stream, added up to the Completion they amount to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scillm.models import ChatMessage, Choice, Completion, Function, ToolCall

if TYPE_CHECKING:
    from scillm.models import ChunkChoice, CompletionChunk, Delta, Usage


class _FoldedCall:
    """One tool call while its pieces arrive."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.type: str | None = None
        self.name = ""
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}

    def add(self, piece: ToolCall) -> None:
        self.id = self.id or piece.id
        self.type = self.type or piece.type
        self.extra.update(piece.extra)
        if piece.function is not None:
            # Some servers repeat the name in every piece; it is never sent in parts.
            self.name = self.name or piece.function.name or ""
            self.arguments.append(piece.function.arguments)

    def done(self, index: int) -> ToolCall:
        return ToolCall(
            id=self.id,
            type=self.type or "function",
            index=index,
            function=Function(name=self.name or None, arguments="".join(self.arguments)),
            extra=self.extra,
        )


class _FoldedChoice:
    """One choice while its pieces arrive."""

    def __init__(self) -> None:
        self.role = ""
        self.texts: dict[str, list[str]] = {}
        self.parts: list[Any] = []
        self.calls: list[_FoldedCall] = []
        self.by_index: dict[int, _FoldedCall] = {}
        self.by_id: dict[str, _FoldedCall] = {}
        self.function_call: dict[str, str] = {}
        self.finish_reason: str | None = None
        self.logprobs: Any = None
        self.extra: dict[str, Any] = {}

    def add(self, piece: ChunkChoice) -> None:
        delta = piece.delta
        self.role = self.role or delta.role or ""
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.logprobs = _joined_logprobs(self.logprobs, piece.logprobs)
        self._add_texts(delta)
        for call in delta.tool_calls or ():
            self._call_for(call).add(call)
        if isinstance(delta.function_call, dict):
            for key, value in delta.function_call.items():
                self.function_call[key] = self.function_call.get(key, "") + str(value or "")
        for key, value in delta.extra.items():
            _add_extra(self.extra, key, value)

    def _add_texts(self, delta: Delta) -> None:
        if isinstance(delta.content, list):
            self.parts += delta.content
        for name in ("content", "refusal", "reasoning_content"):
            value = getattr(delta, name)
            if isinstance(value, str):
                self.texts.setdefault(name, []).append(value)

    def _call_for(self, piece: ToolCall) -> _FoldedCall:
        # By index where there is one, else by id, else the piece continues the last call.
        if piece.index is not None and piece.index in self.by_index:
            return self.by_index[piece.index]
        if piece.index is None and piece.id is not None and piece.id in self.by_id:
            return self.by_id[piece.id]
        if piece.index is None and piece.id is None and self.calls:
            return self.calls[-1]
        call = _FoldedCall()
        self.calls.append(call)
        if piece.index is not None:
            self.by_index[piece.index] = call
        if piece.id is not None:
            self.by_id[piece.id] = call
        return call

    def text(self, name: str) -> str | None:
        return "".join(self.texts[name]) if name in self.texts else None

    def done(self, index: int) -> Choice:
        message = ChatMessage(
            role=self.role or "assistant",
            content=self.parts or self.text("content"),
            tool_calls=[call.done(n) for n, call in enumerate(self.calls)] or None,
            function_call=self.function_call or None,
            refusal=self.text("refusal"),
            reasoning_content=self.text("reasoning_content"),
            extra=self.extra,
        )
        return Choice(
            index=index,
            message=message,
            finish_reason=self.finish_reason,
            logprobs=self.logprobs,
        )


class Fold:
    """Adds up chunks. Remembers every choice so far, the usage, and the stream's own fields."""

    def __init__(self) -> None:
        self._first: CompletionChunk | None = None
        self._last_usage: Usage | None = None
        self._model = ""
        self._fingerprint: str | None = None
        self._choices: dict[int, _FoldedChoice] = {}
        self._extra: dict[str, Any] = {}

    def add(self, chunk: CompletionChunk) -> None:
        """Take the next chunk."""
        self._first = self._first or chunk
        self._model = self._model or chunk.model
        self._fingerprint = self._fingerprint or chunk.system_fingerprint
        self._last_usage = chunk.usage or self._last_usage
        self._extra.update(chunk.extra)
        for piece in chunk.choices:
            self._choices.setdefault(piece.index, _FoldedChoice()).add(piece)

    @property
    def finished(self) -> bool:
        """Whether there is a choice, and every choice has said why it ended."""
        return bool(self._choices) and all(c.finish_reason for c in self._choices.values())

    def usage(self) -> Usage | None:
        """What the stream has said it used."""
        return self._last_usage

    def completion(self) -> Completion:
        """The answer so far."""
        first = self._first
        return Completion(
            id=first.id if first else "",
            created=first.created if first else None,
            model=self._model,
            choices=[choice.done(index) for index, choice in sorted(self._choices.items())],
            usage=self._last_usage,
            system_fingerprint=self._fingerprint,
            extra=dict(self._extra),
        )


def _joined_logprobs(sofar: Any, more: Any) -> Any:
    if not isinstance(more, dict):
        return sofar
    if not isinstance(sofar, dict):
        return dict(more)
    lists = {
        key: [*(sofar.get(key) or ()), *value]
        for key, value in more.items()
        if isinstance(value, list)
    }
    return {**sofar, **more, **lists}


def _add_extra(extra: dict[str, Any], key: str, value: Any) -> None:
    before = extra.get(key)
    if isinstance(before, str) and isinstance(value, str):
        extra[key] = before + value
    elif isinstance(before, list) and isinstance(value, list):
        extra[key] = [*before, *value]
    elif value is not None:
        extra[key] = value
