"""Tools behind a plain HTTP service: GET {base}/tools lists them, POST {base}/invoke calls one.

The older way, from before MCP; every call is posted once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import EngineError, ScillmError
from scillm.records import HttpCall

from scillm_codex.agent.records import ToolAnswer, ToolSpec

if TYPE_CHECKING:
    from scillm.protocols import Transport
    from scillm.records import HttpReply, Json

SHOWN_CHARS = 256


class HttpTools:
    """One service. Remembers its tools."""

    def __init__(
        self, base: str, transport: Transport, *, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._base = base.rstrip("/")
        self._transport = transport
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._timeout_s = timeout_s
        self.tools: Sequence[ToolSpec] = ()

    async def open(self) -> HttpTools:
        """Ask for the tools; `EngineError` when they do not come."""
        try:
            reply = await self._send("GET", "/tools", b"")
        except ScillmError as error:
            raise self._unusable(str(error)) from error
        if reply.status != 200:
            raise self._unusable(f"HTTP {reply.status}")
        try:
            rows = json.loads(reply.body)
        except ValueError as error:
            raise self._unusable(f"no JSON ({error})") from error
        rows = rows.get("tools", rows) if isinstance(rows, dict) else rows
        if not isinstance(rows, list):
            raise self._unusable("no list of tools")
        self.tools = [self._spec(row) for row in rows]
        return self

    async def call(self, name: str, arguments: Mapping[str, Json], /) -> ToolAnswer:
        """Post the call; see `Source`."""
        body = json.dumps({"name": name, "arguments": dict(arguments)}).encode()
        try:
            reply = await self._send("POST", "/invoke", body)
        except ScillmError as error:
            return ToolAnswer(
                ok=False, text=f"Error: {error}. Whether the call had an effect is not known."
            )
        text = reply.body.decode(errors="replace")
        if reply.status >= 400:
            return ToolAnswer(ok=False, text=f"Error: HTTP {reply.status}: {text[-SHOWN_CHARS:]}")
        return _answer(text)

    async def _send(self, method: str, path: str, body: bytes) -> HttpReply:
        return await self._transport.send(
            HttpCall(
                method=method,
                url=self._base + path,
                headers={"content-type": "application/json", **self._headers},
                body=body,
                timeout_s=self._timeout_s,
            )
        )

    def _spec(self, row: Json) -> ToolSpec:
        function = row.get("function", row) if isinstance(row, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise self._unusable(f"{str(row)[:200]} is no tool with a name")
        parameters = function.get("parameters") or {}
        if not isinstance(parameters, Mapping):
            raise self._unusable(f"the parameters of {function['name']!r} are no object")
        return ToolSpec(
            name=function["name"],
            description=str(function.get("description") or ""),
            parameters=parameters,
        )

    def _unusable(self, why: str) -> EngineError:
        return EngineError(f"The tools at {self._base} cannot be used: {why}.")


def _answer(text: str) -> ToolAnswer:
    try:
        found = json.loads(text)
    except ValueError:
        return ToolAnswer(text=text or "(the tool gave no output)")
    if not isinstance(found, Mapping):
        return ToolAnswer(text=text)
    ok = found.get("ok") is not False and not found.get("error")
    said = next((found[key] for key in ("text", "result", "answer") if found.get(key)), None)
    return ToolAnswer(ok=ok, text=said if isinstance(said, str) else text)
