"""A run as rows of a journal, and the rows back as a run; no file, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, fields, frozen
from scillm.errors import StoredRunError
from scillm.runs.canonical import digest

from scillm_codex.agent.machine import Agent, after, begin
from scillm_codex.agent.records import (
    AgentLimits,
    Answered,
    Expired,
    Happening,
    Heard,
    ToolSpec,
)

if TYPE_CHECKING:
    from scillm.records import Json, Message

VERSION = 1
PREVIEW_CHARS = 200
EVENTS: Mapping[str, type[Heard] | type[Answered] | type[Expired]] = {
    "reply": Heard,
    "tool": Answered,
    "expired": Expired,
}


def opening_row(
    run_id: str,
    *,
    model: str,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    limits: AgentLimits,
    created: float,
) -> dict[str, Json]:
    """The first row: all the machine is told at the beginning."""
    return {
        "kind": "run",
        "version": VERSION,
        "run_id": run_id,
        "created": created,
        "model": model,
        "messages": [dict(message) for message in messages],
        "tools": [tool.to_openai() for tool in tools],
        "limits": asdict(limits),
    }


def event_row(event: Happening, **more: Json) -> dict[str, Json]:
    """What happened, as the machine was told; `more` is for people."""
    kind = next(kind for kind, cls in EVENTS.items() if isinstance(event, cls))
    told = {row.name: getattr(event, row.name) for row in fields(type(event))}
    return {"kind": kind, "told": told, **({"more": more} if more else {})}


def closing_row(agent: Agent) -> dict[str, Json]:
    """The last row: how it ended, and a digest of every message."""
    stop = agent.stopped
    return {
        "kind": "end",
        "stopped_reason": None if stop is None else stop.reason,
        "final_answer": None if stop is None else stop.answer,
        "final_answer_preview": None if stop is None else stop.answer[:PREVIEW_CHARS],
        "iterations": agent.steps,
        "tokens": agent.tokens,
        "cost_usd": agent.cost_usd,
        "messages_digest": digest(list(agent.messages)),
    }


def failed_row(error: BaseException) -> dict[str, Json]:
    """The last row of a run that an error ended."""
    return {"kind": "failed", "error": type(error).__name__}


@frozen(kw_only=True)
class Replayed:
    """A run that was walked again from its rows."""

    run_id: str
    model: str
    agent: Agent
    finished: bool


def replayed(rows: Sequence[Mapping[str, Json]]) -> Replayed:
    """Walk a run again; `StoredRunError` when it does not come out as its rows say."""
    if not rows or rows[0].get("kind") != "run" or rows[0].get("version") != VERSION:
        raise StoredRunError("This is no trace of a mini-agent's run: its first row is not one.")
    head = rows[0]
    agent = begin(
        head["messages"],
        tools=[tool["function"]["name"] for tool in head["tools"]],
        limits=AgentLimits(**head["limits"]),
    )
    finished = False
    for row in rows[1:]:
        kind = row["kind"]
        if kind in EVENTS:
            agent = after(agent, EVENTS[kind](**row["told"]))
        elif kind == "end":
            finished = True
            if row != closing_row(agent):
                raise StoredRunError(
                    "The run does not come out as its trace says: its messages or its end differ. "
                    "It was changed, or made by another version."
                )
        elif kind != "failed":
            raise StoredRunError(f"The trace has a row {kind!r}, which no run writes.")
    return Replayed(run_id=head["run_id"], model=head["model"], agent=agent, finished=finished)
