"""A connection to one MCP server (the `mcp` SDK's door).

The SDK's client lives in a task of its own: when a server breaks, the SDK cancels whoever stands
inside its context, and that must not be the agent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import TYPE_CHECKING, Any

import anyio
from attrs import define, field
from scillm.errors import EngineError, UsageError

from scillm_codex.agent.records import ToolAnswer, ToolSpec
from scillm_codex.mcp.results import answer_of, cause_of
from scillm_codex.mcp.stdio import Speaking, started

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp import Client

    from scillm_codex.mcp.names import McpTarget

MOST_PAGES = 100
MOST_TOOLS = 1_000


@define(eq=False)
class _Ask:
    """One call on its way: what is asked, and where its answer is put, once."""

    name: str
    arguments: Mapping[str, Any]
    timeout_s: float
    done: anyio.Event = field(factory=anyio.Event)
    answer: ToolAnswer | None = None
    scope: anyio.CancelScope | None = None

    def settle(self, answer: ToolAnswer) -> None:
        if self.answer is None:
            self.answer = answer
            self.done.set()


class McpServer:
    """One server while `serve` runs. Remembers its tools and the calls on their way."""

    def __init__(self, target: McpTarget) -> None:
        self.target = target
        self.tools: Sequence[ToolSpec] = ()
        self.protocol = ""
        """The protocol version agreed on."""
        self._asks: MemoryObjectSendStream[_Ask] | None = None
        self._open: set[_Ask] = set()
        self._gone = ""
        self._stdio: _Stdio | None = None

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Connect, tell through `task_status`, and carry out calls until cancelled.

        Raises `EngineError` when it cannot be connected. A server that breaks later ends this
        quietly: its calls are then answered with why.
        """
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            task_status.started()

        why, wait_s = "it was closed", self.target.connect_s
        try:
            # Around all of it: the SDK's own scopes, opened inside, outlive the connecting.
            with anyio.CancelScope(deadline=anyio.current_time() + wait_s) as connecting:
                await self._serve(begin, connecting)
            if connecting.cancelled_caught:
                raise EngineError(f"no answer within {wait_s:g} s")  # noqa: TRY301
        except UsageError:
            raise
        # The SDK tells of every failure through exception groups, built in since 3.11 only.
        except Exception as error:
            why = self._broken or (
                error.message if isinstance(error, EngineError) else cause_of(error)
            )
            if not begun:
                raise self._unreachable(why) from error
        finally:
            self._gone = f"{self._broken or why}{self._last_words()}"
            for ask in tuple(self._open):
                ask.settle(self._lost())

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """Carry out one tool, once; whatever goes wrong is the answer's text."""
        if self._gone or self._asks is None:
            return self._lost()
        ask = _Ask(name, arguments, self.target.timeout_s)
        self._open.add(ask)
        try:
            await self._asks.send(ask)
            await ask.done.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return self._lost()
        finally:
            self._open.discard(ask)
            if ask.scope is not None:
                ask.scope.cancel()
        return ask.answer or self._lost()

    async def _serve(self, begun: Callable[[], None], connecting: anyio.CancelScope) -> None:
        send, receive = anyio.create_memory_object_stream[_Ask](0)
        async with AsyncExitStack() as stack:
            stack.enter_context(send)
            stack.enter_context(receive)
            client = await stack.enter_async_context(await self._client(stack))
            self.protocol = client.protocol_version
            self.tools = await _listed(client)
            connecting.deadline = math.inf
            self._asks = send
            begun()
            await self._carry_on(client, receive)

    async def _carry_on(self, client: Client, asks: MemoryObjectReceiveStream[_Ask]) -> None:
        async with anyio.create_task_group() as group:
            async for ask in asks:
                group.start_soon(self._carry_out, client, ask)

    async def _carry_out(self, client: Client, ask: _Ask) -> None:
        if ask.done.is_set():
            return
        with anyio.CancelScope(deadline=anyio.current_time() + ask.timeout_s) as scope:
            ask.scope = scope

            async def still_working(
                progress: float,  # noqa: ARG001 - the SDK's protocol names them
                total: float | None,  # noqa: ARG001
                message: str | None,  # noqa: ARG001
            ) -> None:
                scope.deadline = anyio.current_time() + ask.timeout_s

            try:
                result = await client.call_tool(
                    ask.name, dict(ask.arguments), ask.timeout_s * 100, still_working
                )
                ask.settle(answer_of(result.model_dump(mode="json", by_alias=True)))
            # A wrong answer comes as the SDK's, pydantic's or jsonschema's error: the call failed.
            except Exception as error:  # noqa: BLE001
                why = self._broken or cause_of(error)
                ask.settle(ToolAnswer(ok=False, text=f"Error: {why}"))
        if scope.cancelled_caught:
            ask.settle(
                ToolAnswer(
                    ok=False,
                    text=f"Error: nothing came from {ask.name!r} for {ask.timeout_s:g} s; the call "
                    "was cancelled. Whether it had an effect is not known.",
                )
            )

    def _lost(self) -> ToolAnswer:
        why = self._gone or "it is not connected"
        return ToolAnswer(
            ok=False,
            text=f"Error: the MCP server {self.target.name!r} is gone ({why}). Whether the call "
            "had an effect is not known.",
        )

    def _unreachable(self, why: str) -> EngineError:
        where = self.target.url or " ".join(self.target.command)
        return EngineError(
            f"The MCP server {self.target.name!r} ({where}) cannot be used: {why}."
            f"{self._last_words()}"
        )

    def _last_words(self) -> str:
        return "" if self._stdio is None else self._stdio.speaking.last_words()

    @property
    def _broken(self) -> str:
        return "" if self._stdio is None else self._stdio.broken

    async def _client(self, stack: AsyncExitStack) -> Client:
        try:
            from mcp import Client
            from mcp.client.streamable_http import streamable_http_client
        except ImportError as error:
            raise UsageError(
                "Tools of MCP servers need the mcp package: pip install 'scillm-codex[mcp]'."
            ) from error
        target = self.target
        if not target.url:
            self._stdio = _Stdio(await started(target))
            return Client(self._stdio, mode=target.mode)
        if not target.headers:
            return Client(target.url, mode=target.mode)
        import httpx2

        http = await stack.enter_async_context(
            httpx2.AsyncClient(headers=dict(target.headers), timeout=httpx2.Timeout(30, read=300))
        )
        return Client(streamable_http_client(target.url, http_client=http), mode=target.mode)


class _Stdio:
    """The SDK's transport over a server we started. Holds its tasks, and why it broke off."""

    def __init__(self, speaking: Speaking) -> None:
        self.speaking = speaking
        self.broken = ""
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> tuple[Any, Any]:
        into, heard = anyio.create_memory_object_stream[Any](0)
        said, out = anyio.create_memory_object_stream[Any](0)
        await self._group.__aenter__()
        self._group.start_soon(self.speaking.listen)
        self._group.start_soon(self._hear, into)
        self._group.start_soon(self._say, out, into)
        return heard, said

    async def __aexit__(self, *_error: object) -> None:
        await self.speaking.end()
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    async def _hear(self, into: MemoryObjectSendStream[Any]) -> None:
        from mcp.shared.message import SessionMessage
        from mcp.types import jsonrpc_message_adapter

        with into, suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            try:
                async with aclosing(self.speaking.messages()) as messages:
                    async for document in messages:
                        try:
                            message = jsonrpc_message_adapter.validate_python(
                                document, by_name=False
                            )
                        except ValueError:
                            self.speaking.blame(document)
                        else:
                            await into.send(SessionMessage(message))
            except EngineError as error:
                self.broken = error.message

    async def _say(
        self, out: MemoryObjectReceiveStream[Any], into: MemoryObjectSendStream[Any]
    ) -> None:
        with out, suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            async for each in out:
                line = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self.speaking.send(line)
        # Who asks it something more shall hear that it is gone.
        into.close()


async def _listed(client: Client) -> list[ToolSpec]:
    tools: list[ToolSpec] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += [
            ToolSpec(
                name=tool.name,
                description=tool.description or tool.title or "",
                parameters=tool.input_schema,
            )
            for tool in page.tools
        ]
        cursor = page.next_cursor
        if len(tools) > MOST_TOOLS:
            break
        if cursor is None:
            return tools
    raise EngineError(
        f"it lists more than {MOST_TOOLS} tools, or more than {MOST_PAGES} pages of them"
    )
