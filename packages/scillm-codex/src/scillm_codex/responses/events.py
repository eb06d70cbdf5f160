"""Chat chunks as the events of the Responses API: a machine without a clock or a connection.

Shapes and order: the Responses API reference (`response.created` … `response.completed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define

from scillm_codex.responses.shapes import free_input, text_part, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from scillm.models import CompletionChunk, Delta, ToolCall, Usage
    from scillm.records import Json

    from scillm_codex.responses.tools import ToolName

Event = dict[str, "Json"]
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


@define
class _Call:
    """A tool call as it grows."""

    place: int
    item_id: str
    call_id: str
    name: str = ""
    arguments: str = ""
    told: bool = False


@define
class _Text:
    """A message or a reasoning item as it grows."""

    place: int
    item_id: str
    text: str = ""


class Responding:
    """One answer on its way. Remembers its items, and numbers its events.

    `head` is the response object without status and output; `names` leads from the functions of the
    chat request to the client's tools; `new_id` makes ids.
    """

    def __init__(
        self,
        head: Mapping[str, Json],
        *,
        names: Mapping[str, ToolName],
        new_id: Callable[[str], str],
    ) -> None:
        self._head = dict(head)
        self._names = names
        self._new_id = new_id
        self._number = 0
        self._output: list[dict[str, Json]] = []
        self._text: _Text | None = None
        self._thought: _Text | None = None
        self._calls: dict[int, _Call] = {}
        self._usage: Usage | None = None
        self._reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether a chunk said why the answer ended."""
        return self._reason is not None

    def begin(self) -> list[Event]:
        """The events before any chunk."""
        response = self.response("in_progress")
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def take(self, chunk: CompletionChunk) -> list[Event]:
        """The events a chunk brings. Only the first choice is shown: the API has one answer."""
        self._usage = chunk.usage or self._usage
        events: list[Event] = []
        for choice in chunk.choices:
            if choice.index == 0:
                events += self._delta(choice.delta)
                self._reason = choice.finish_reason or self._reason
        return events

    def end(self) -> list[Event]:
        """The events after the last chunk."""
        events = self._close_thought() + self._close_text()
        for call in self._calls.values():
            events += self._close_call(call)
        why = INCOMPLETE.get(self._reason or "")
        status = "completed" if why is None else "incomplete"
        return [*events, self._event(f"response.{status}", response=self.response(status))]

    def fail(self, message: str, code: str) -> list[Event]:
        """The events of an answer that broke off."""
        response = self.response("failed") | {"error": {"code": code, "message": message}}
        return [self._event("response.failed", response=response)]

    def response(self, status: str) -> dict[str, Json]:
        """The response object as it is now."""
        why = INCOMPLETE.get(self._reason or "") if status == "incomplete" else None
        return {
            **self._head,
            "status": status,
            "output": [dict(item) for item in self._output],
            "error": None,
            "incomplete_details": None if why is None else {"reason": why},
            **({} if self._usage is None else {"usage": usage_of(self._usage)}),
        }

    def _delta(self, delta: Delta) -> list[Event]:
        events: list[Event] = []
        if delta.reasoning_content:
            events += self._think(delta.reasoning_content)
        said = delta.content if isinstance(delta.content, str) else ""
        said += delta.refusal or ""
        if said:
            events += self._close_thought() + self._say(said)
        for place, call in enumerate(delta.tool_calls or ()):
            events += self._close_thought() + self._close_text() + self._call(call, place)
        return events

    def _think(self, text: str) -> list[Event]:
        events: list[Event] = []
        thought = self._thought
        if thought is None:
            name = self._new_id("rs")
            item = {"type": "reasoning", "id": name, "summary": []}
            place = self._open(item)
            thought = self._thought = _Text(place=place, item_id=name)
            part = {"type": "summary_text", "text": ""}
            events += [
                self._event("response.output_item.added", output_index=place, item=item),
                self._event(
                    "response.reasoning_summary_part.added",
                    item_id=thought.item_id, output_index=place, summary_index=0, part=part,
                ),
            ]  # fmt: skip
        thought.text += text
        return [
            *events,
            self._event(
                "response.reasoning_summary_text.delta",
                item_id=thought.item_id, output_index=thought.place, summary_index=0, delta=text,
            ),
        ]  # fmt: skip

    def _close_thought(self) -> list[Event]:
        thought, self._thought = self._thought, None
        if thought is None:
            return []
        part = {"type": "summary_text", "text": thought.text}
        item = {"type": "reasoning", "id": thought.item_id, "summary": [part]}
        where = {"item_id": thought.item_id, "output_index": thought.place, "summary_index": 0}
        return [
            self._event("response.reasoning_summary_text.done", **where, text=thought.text),
            self._event("response.reasoning_summary_part.done", **where, part=part),
            self._done(thought.place, item),
        ]

    def _say(self, text: str) -> list[Event]:
        events: list[Event] = []
        said = self._text
        if said is None:
            name = self._new_id("msg")
            item = {
                "type": "message", "id": name, "role": "assistant", "status": "in_progress",
                "content": [],
            }  # fmt: skip
            place = self._open(item)
            said = self._text = _Text(place=place, item_id=name)
            events += [
                self._event("response.output_item.added", output_index=place, item=item),
                self._event(
                    "response.content_part.added",
                    item_id=name, output_index=place, content_index=0, part=text_part(""),
                ),
            ]  # fmt: skip
        said.text += text
        return [
            *events,
            self._event(
                "response.output_text.delta",
                item_id=said.item_id, output_index=said.place, content_index=0, delta=text,
                logprobs=[],
            ),
        ]  # fmt: skip

    def _close_text(self) -> list[Event]:
        said, self._text = self._text, None
        if said is None:
            return []
        part = text_part(said.text)
        where = {"item_id": said.item_id, "output_index": said.place, "content_index": 0}
        item = {
            "type": "message", "id": said.item_id, "role": "assistant", "status": "completed",
            "content": [part],
        }  # fmt: skip
        return [
            self._event("response.output_text.done", **where, text=said.text, logprobs=[]),
            self._event("response.content_part.done", **where, part=part),
            self._done(said.place, item),
        ]

    def _call(self, given: ToolCall, place: int) -> list[Event]:
        """A piece of a tool call; its item opens once its name is there."""
        index = place if given.index is None else given.index
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _Call(
                place=-1,
                item_id=self._new_id("fc"),
                call_id=given.id or self._new_id("call"),
            )
        more = "" if given.function is None else given.function.arguments
        if given.function is not None and given.function.name and not call.name:
            call.name = given.function.name
        call.arguments += more
        events: list[Event] = []
        if not call.told and call.name:
            call.told = True
            item = self._item(call, "in_progress", "")
            call.place = self._open(item)
            events.append(
                self._event("response.output_item.added", output_index=call.place, item=item)
            )
            more = call.arguments
        if call.told and more and not self._free_form(call):
            events.append(
                self._event(
                    "response.function_call_arguments.delta",
                    item_id=call.item_id, output_index=call.place, delta=more,
                )
            )  # fmt: skip
        return events

    def _close_call(self, call: _Call) -> list[Event]:
        if not call.told:
            # A call without a name is no call; Codex can do nothing with it.
            return []
        item = self._item(call, "completed", call.arguments)
        where = {"item_id": call.item_id, "output_index": call.place}
        if self._free_form(call):
            closing = self._event(
                "response.custom_tool_call_input.done", **where, input=item["input"]
            )
        else:
            closing = self._event(
                "response.function_call_arguments.done",
                **where, name=call.name, arguments=call.arguments,
            )  # fmt: skip
        return [closing, self._done(call.place, item)]

    def _item(self, call: _Call, status: str, arguments: str) -> dict[str, Json]:
        tool = self._names.get(call.name)
        item: dict[str, Json] = {
            "type": "function_call",
            "id": call.item_id,
            "call_id": call.call_id,
            "name": call.name if tool is None else tool.name,
            "status": status,
        }
        if tool is not None and tool.namespace is not None:
            item["namespace"] = tool.namespace
        if self._free_form(call):
            return item | {"type": "custom_tool_call", "input": free_input(arguments)}
        return item | {"arguments": arguments}

    def _free_form(self, call: _Call) -> bool:
        tool = self._names.get(call.name)
        return tool is not None and tool.free_form

    def _open(self, item: dict[str, Json]) -> int:
        self._output.append(item)
        return len(self._output) - 1

    def _done(self, place: int, item: dict[str, Json]) -> Event:
        self._output[place] = item
        return self._event("response.output_item.done", output_index=place, item=item)

    def _event(self, kind: str, **fields: Json) -> Event:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **fields}
