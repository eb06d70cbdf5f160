"""Running one command to its end, with its output bounded and nothing of it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import define, frozen

from scillm_codex.held import end_held, start_held

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, Process

KEPT_BYTES = 200_000


@frozen(kw_only=True)
class Ended:
    """How a command ended. `code` is None when it was stopped for its time."""

    code: int | None
    stdout: str
    stderr: str


@define
class _Kept:
    """The beginning of a stream, and how much came after it."""

    data: bytearray
    dropped: int = 0

    def text(self) -> str:
        said = self.data.decode(errors="replace")
        return f"{said}\n[… {self.dropped} more bytes …]" if self.dropped else said


async def run_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    input: bytes = b"",
    timeout_s: float,
) -> Ended:
    """Run `argv` without a shell, on a leash: nothing it started outlives this call, or us.

    One that cannot be started ends with 127, and says so on stderr.
    """
    process = await start_held(argv, env=env, cwd=cwd)
    out, err = _Kept(bytearray()), _Kept(bytearray())
    code: int | None = None
    try:
        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as group:
                group.start_soon(_feed, process, input)
                group.start_soon(_drain, process.stdout, out)
                group.start_soon(_drain, process.stderr, err)
                code = await process.wait()
    finally:
        await end_held(process)
    return Ended(code=code, stdout=out.text(), stderr=err.text())


async def _feed(process: Process, data: bytes) -> None:
    stdin = process.stdin
    if stdin is None:
        return
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        await stdin.send(data)
        await stdin.aclose()


async def _drain(stream: ByteReceiveStream | None, kept: _Kept) -> None:
    if stream is None:
        return
    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for piece in stream:
            room = max(0, KEPT_BYTES - len(kept.data))
            kept.data += piece[:room]
            kept.dropped += len(piece) - len(piece[:room])
