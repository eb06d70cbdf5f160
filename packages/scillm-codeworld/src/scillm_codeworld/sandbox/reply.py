"""Reading what a child said: each line is judged by what may be said at that point, or refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from scillm_codeworld.plain import plain_problem
from scillm_codeworld.records import (
    EXCEPTION,
    MEMORY,
    NO_ENTRY_POINT,
    OK,
    SANDBOX_REFUSED,
    SYNTAX_ERROR,
    UNSERIALISABLE,
    Execution,
)

if TYPE_CHECKING:
    from scillm.records import Json

READY = "ready"
LOADED = "loaded"

STARTING = frozenset({READY, SANDBOX_REFUSED})
"""What our own code may say before the program is there. Nothing later can claim a refusal."""
LOADING = frozenset({LOADED, SYNTAX_ERROR, NO_ENTRY_POINT, EXCEPTION, MEMORY})
ANSWERING = frozenset({OK, EXCEPTION, MEMORY, UNSERIALISABLE})

REASON_CHARS = 600


def parse_reply(line: bytes, allowed: Collection[str]) -> Mapping[str, Json]:
    """The line as a mapping whose `status` is one of `allowed`.

    The program shares a process with whoever wrote the line, so it may hold anything. A line that
    is no reply becomes an `exception`, an answer that is no plain JSON `unserialisable`.
    """
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError) as error:
        status = UNSERIALISABLE if OK in allowed else EXCEPTION
        return {"status": status, "reason": f"the answer cannot be read as JSON: {cut(str(error))}"}
    if not isinstance(reply, dict) or reply.get("status") not in allowed:
        return {
            "status": EXCEPTION,
            "reason": "the program wrote to the result pipe something that is no answer",
        }
    if reply["status"] == OK:
        problem = plain_problem(reply.get("output"))
        if problem:
            return {"status": UNSERIALISABLE, "reason": problem}
    return reply


def failure(reply: Mapping[str, Json]) -> Execution:
    """The execution a reply other than ready, loaded and ok amounts to."""
    return Execution(
        status=reply["status"], reason=cut(str(reply.get("reason") or "no reason given"))
    )


def cut(text: str) -> str:
    """`text` as storable Unicode on one line, its length bounded and a cut marked."""
    clean = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return clean if len(clean) <= REASON_CHARS else f"{clean[:REASON_CHARS]}…"
