"""Reading what a child said: each line is judged by what may be said at that point, or refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
from scillm_codeworld.sandbox.runner import FRAMES, FUNCTION_CHARS

if TYPE_CHECKING:
    from scillm.records import Json

READY = "ready"
LOADED = "loaded"

STARTING = frozenset({READY, SANDBOX_REFUSED})
"""What our own code may say before the program is there. Nothing later can claim a refusal."""
LOADING = frozenset({LOADED, SYNTAX_ERROR, NO_ENTRY_POINT, EXCEPTION, MEMORY})
ANSWERING = frozenset({OK, EXCEPTION, MEMORY, UNSERIALISABLE})

REASON_CHARS = 600
NO_ANSWER = "the program wrote to the result pipe something that is no answer"


def parse_reply(line: bytes, allowed: Collection[str]) -> Mapping[str, Json]:
    """The line as a mapping whose `status` is one of `allowed`.

    The program shares a process with whoever wrote the line, so it may hold anything. A line that
    is no reply becomes an `exception`, an answer that is no plain JSON `unserialisable`.
    """
    try:
        said: Json = json.loads(line)
    except (ValueError, RecursionError) as error:
        status = UNSERIALISABLE if OK in allowed else EXCEPTION
        return {"status": status, "reason": f"the answer cannot be read as JSON: {cut(str(error))}"}
    reply: Mapping[str, Json] = said if isinstance(said, dict) else {}
    word = reply.get("status")
    if not isinstance(word, str) or word not in allowed:
        return {"status": EXCEPTION, "reason": NO_ANSWER}
    if word == OK:
        problem = plain_problem(reply.get("output"))
        if problem:
            return {"status": UNSERIALISABLE, "reason": problem}
    return reply


def failure(reply: Mapping[str, Json]) -> Execution:
    """The execution a reply other than ready, loaded and ok amounts to."""
    return Execution(
        status=reply["status"],
        reason=cut(str(reply.get("reason") or "no reason given")),
        frames=frames_of(reply.get("frames")),
    )


def frames_of(said: Json) -> Sequence[Mapping[str, Json]]:
    """The frames a child told of: of any other shape, or longer than ours would be, none."""
    if not isinstance(said, list) or len(said) > FRAMES + 1:
        return ()
    found = []
    for row in said:
        words = row if isinstance(row, dict) else {}
        line, function, left_out = (words.get(key) for key in ("line", "function", "left_out"))
        if type(line) is int and isinstance(function, str):
            found.append({"line": line, "function": cut(function)[:FUNCTION_CHARS]})
        elif type(left_out) is int and not found:
            found.append({"left_out": left_out})
        else:
            return ()
    return tuple(found)


def cut(text: str) -> str:
    """`text` as storable Unicode on one line, its length bounded and a cut marked."""
    clean = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return clean if len(clean) <= REASON_CHARS else f"{clean[:REASON_CHARS]}…"
