"""A transport that plays back HTTP exchanges, and refuses every call that was not recorded."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.lowlevel
from attrs import frozen

from scillm.records import HttpCall, HttpReply, HttpStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from scillm.records import Json


@frozen(kw_only=True)
class Exchange:
    """One call and the reply to it.

    A call fits when method, URL and body agree (bodies as JSON where both are JSON) and it carries
    every header of `call`; headers that `call` does not name are free.
    """

    call: HttpCall
    reply: HttpReply


def json_exchange(
    url: str,
    *,
    sent: Json = None,
    got: Json,
    method: str = "POST",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Exchange:
    """An exchange of two JSON documents; `sent=None` stands for an empty body."""
    return Exchange(
        call=HttpCall(
            method=method,
            url=url,
            headers={} if headers is None else headers,
            body=b"" if sent is None else json.dumps(sent).encode(),
        ),
        reply=HttpReply(
            status=status,
            headers={"content-type": "application/json"},
            body=json.dumps(got).encode(),
        ),
    )


class RecordedTransport:
    """Answers each recorded call, as often as it comes, with its reply.

    Remembers `calls` (everything asked for, in order). Anything else raises an `AssertionError`
    that names the difference; header values are never shown. A streamed body arrives in pieces of
    `piece_bytes`, so that a parser that needs whole lines or whole characters is found out.
    """

    def __init__(self, exchanges: Sequence[Exchange], *, piece_bytes: int = 7) -> None:
        self._exchanges = tuple(exchanges)
        self._piece_bytes = piece_bytes
        self._used: set[int] = set()
        self.calls: list[HttpCall] = []

    async def send(self, call: HttpCall, /) -> HttpReply:
        """The recorded reply."""
        await anyio.lowlevel.checkpoint()
        return self._reply_to(call)

    @asynccontextmanager
    async def stream(self, call: HttpCall, /) -> AsyncIterator[HttpStream]:
        """The recorded reply, its body in pieces."""
        await anyio.lowlevel.checkpoint()
        reply = self._reply_to(call)
        yield HttpStream(
            status=reply.status,
            headers=reply.headers,
            chunks=_pieces(reply.body, self._piece_bytes),
        )

    def unused(self) -> list[Exchange]:
        """Recorded exchanges that no call asked for."""
        return [row for number, row in enumerate(self._exchanges) if number not in self._used]

    def _reply_to(self, call: HttpCall) -> HttpReply:
        self.calls.append(call)
        differences = [difference(row.call, call) for row in self._exchanges]
        for number, found in enumerate(differences):
            if not found:
                self._used.add(number)
                return self._exchanges[number].reply
        listed = "".join(
            f"\n  {row.call.method} {row.call.url}: {found}"
            for row, found in zip(self._exchanges, differences, strict=True)
        )
        raise AssertionError(
            f"{call.method} {call.url} was not recorded. Recorded, and how each differs:"
            f"{listed or ' nothing.'}"
        )


def difference(wanted: HttpCall, came: HttpCall) -> str:
    """What keeps `came` from fitting the recorded call `wanted`; empty when it fits."""
    if (wanted.method, wanted.url) != (came.method, came.url):
        return "another method or URL"
    missing = [name for name, value in wanted.headers.items() if came.headers.get(name) != value]
    if missing:
        return f"header {', '.join(missing)} is missing or has another value"
    if _document(wanted.body) != _document(came.body):
        return f"the body is {came.body[:500]!r}, recorded is {wanted.body[:500]!r}"
    return ""


def _document(body: bytes) -> Json:
    try:
        return json.loads(body)
    except ValueError:
        return body


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        await anyio.lowlevel.checkpoint()
        yield body[start : start + size]
