"""JSON-RPC with Codex: who is listened to, and that nothing is kept for nobody."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import APIConnectionError, APITimeoutError
from scillm_codex.sidecar.rpc import Rpc, RpcError


class Wire:
    """The other end: answers what `answer` makes of each call."""

    def __init__(self, answer: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        self.answer = answer
        self.rpc = Rpc(self.write)

    async def write(self, line: bytes) -> None:
        message = json.loads(line)
        self.sent.append(message)
        for reply in self.answer(message):
            await self.rpc.take(json.dumps(reply).encode())


def note(thread: str, number: int) -> dict[str, Any]:
    return {"method": "item/started", "params": {"threadId": thread, "number": number}}


def started(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A thread, with notes before its id is told and right behind it, and another one's."""
    return [
        {"method": "thread/started", "params": {"thread": {"id": "mine"}}},
        {"method": "thread/started", "params": {"thread": {"id": "sub-agent"}}},
        {"id": message["id"], "result": {"thread": {"id": "mine"}}},
        note("mine", 1),
        note("sub-agent", 2),
        note("mine", 3),
    ]


def test_a_thread_is_heard_from_its_id_on_and_nobody_elses_is_kept() -> None:
    """What comes in one go with the id is not lost; what nobody listens to takes no memory."""

    async def main() -> Any:
        wire = Wire(started)
        name, notes = await wire.rpc.open({})
        for number in range(1000):
            await wire.rpc.take(json.dumps(note("sub-agent", number)).encode())
        found = [notes.receive_nowait()["params"]["number"] for _ in range(2)]
        listened = list(wire.rpc._threads)
        wire.rpc.forget(name)
        wire.rpc.close("over")
        notes.close()
        return name, found, listened, wire.rpc._threads

    assert anyio.run(main) == ("mine", [1, 3], ["mine"], {})


def test_a_call_that_is_refused_never_opens() -> None:
    """The refusal is raised, and nothing is listened to."""

    async def main() -> Any:
        wire = Wire(lambda message: [{"id": message["id"], "error": {"code": 7, "message": "no"}}])
        with pytest.raises(RpcError, match="no") as caught:
            await wire.rpc.open({})
        return caught.value.code, wire.rpc._threads, wire.rpc.waiting

    assert anyio.run(main) == (7, {}, 0)


def test_a_call_has_a_limit_and_its_late_answer_is_nobodys() -> None:
    """After the limit nothing of the call is kept, and its answer is left out."""

    async def main() -> int:
        wire = Wire(lambda _message: [])
        with pytest.raises(APITimeoutError, match=r"model/list within 0\.05 s"):
            await wire.rpc.call("model/list", {}, within_s=0.05)
        await wire.rpc.take(b'{"id": 1, "result": {}}')
        return wire.rpc.waiting

    assert anyio.run(main) == 0


def test_the_end_of_the_connection_ends_every_wait() -> None:
    """Calls under way and later ones fail with what Codex said last."""

    async def main() -> list[str]:
        wire = Wire(lambda _message: [])
        said: list[str] = []

        async def ask() -> None:
            with pytest.raises(APIConnectionError) as caught:
                await wire.rpc.call("model/list", {})
            said.append(caught.value.message)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            wire.rpc.close("out of memory")
        await ask()
        return said

    said = anyio.run(main)
    assert said[0].startswith("The Codex process has ended: out of memory.")
    assert said == [said[0]] * 2


def test_what_codex_asks_a_person_is_refused() -> None:
    """Nobody is here to approve; a client's tool call alone stays open."""

    async def main() -> list[dict[str, Any]]:
        wire = Wire(lambda _message: [])
        await wire.rpc.take(b'{"id": 5, "method": "execCommandApproval", "params": {}}')
        await wire.rpc.take(b'{"id": 6, "method": "item/tool/call", "params": {}}')
        return wire.sent

    (answer,) = anyio.run(main)
    assert (answer["id"], answer["error"]["code"]) == (5, -32601)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["id", "method", "params", "threadId", "thread", "result", "error"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(JUNK.map(json.dumps) | st.text(max_size=10))
def test_no_line_breaks_the_connection(line: str) -> None:
    """Whatever Codex writes, the next line is read."""

    async def main() -> int:
        wire = Wire(lambda _message: [])
        await wire.rpc.take(line.encode())
        return wire.rpc.waiting

    assert anyio.run(main) == 0
