"""One run in a zygote's care: its pipes, and the leash that ends it when it is let go."""

from __future__ import annotations

import json
import os
import select
import socket
import time

import anyio
from scillm.errors import SandboxError

from scillm_codeworld.sandbox.child import CLOSED, REAP_S, Pipes, Usage


def pipes(count: int) -> list[tuple[int, int]]:
    """So many pipes, or none and `OSError`."""
    made: list[tuple[int, int]] = []
    try:
        while len(made) < count:
            made.append(os.pipe())
    except OSError:
        for pipe in (end for pair in made for end in pair):
            os.close(pipe)
        raise
    return made


def unkillable() -> SandboxError:
    """For a run of which nobody knows whether it ended."""
    return SandboxError(
        f"A run was killed and its sandbox did not say that it ended within {REAP_S:g} s; the "
        "system may be stuck on a device."
    )


class Spawned(Pipes):
    """One child forked by a zygote. Holds its four pipes and its leash."""

    def __init__(self, control: socket.socket, *, memory_bytes: int) -> None:
        """Order it from the zygote behind `control`.

        `BlockingIOError` when that has as many orders as it can hold, `OSError` when it fails.
        """
        self.usage: Usage | None = None
        self._code: int | None = None
        self._account = b""
        self._ended = False
        self._leash, leash = socket.socketpair()
        with leash:
            try:
                made = pipes(4)
            except OSError:
                self._leash.close()
                raise
            (inputs, self.requests), (self.answers, answers) = made[:2]
            (self.stdout, stdout), (self.stderr, stderr) = made[2:]
            theirs = (inputs, answers, stdout, stderr)
            try:
                for pipe in (self.requests, self.answers, self.stdout, self.stderr):
                    os.set_blocking(pipe, False)
                self._leash.settimeout(0)
                socket.send_fds(control, [b"%d" % memory_bytes], (*theirs, leash.fileno()))
            except BaseException:
                self.close()
                raise
            finally:
                for pipe in theirs:
                    os.close(pipe)

    @property
    def lost(self) -> bool:
        """Whether its zygote went away without an account of it."""
        return self._ended and self._code is None

    async def exit_code(self, *, within_s: float) -> int | None:
        """How it ended by itself (negative: the signal), or None when it has not in that time."""
        with anyio.move_on_after(within_s):
            while not self._ended:
                self._take(await self._heard())
        return self._code

    async def pid(self, *, within_s: float) -> int | None:
        """Its process id as the host sees it, or None when it was not told in that time."""
        with anyio.move_on_after(within_s):
            while b"\n" not in self._account and not self._ended:
                self._take(await self._heard())
        return self.told_pid

    @property
    def told_pid(self) -> int | None:
        """Its process id as the host sees it, once that was heard of."""
        line, newline, _ = self._account.partition(b"\n")
        pid = json.loads(line).get("pid") if newline else None
        return pid if isinstance(pid, int) else None

    def poll(self) -> bool:
        """Whether it has ended, by all that can be heard without waiting."""
        while not self._ended:
            try:
                self._take(self._leash.recv(4096))
            except BlockingIOError:
                break
            except ConnectionResetError:
                self._take(b"")
        return self._ended

    def wait(self, *, within_s: float) -> bool:
        """`poll`, after something was heard or that time was over; holds up all else meanwhile."""
        waiting = select.poll()
        waiting.register(self._leash, select.POLLIN)
        waiting.poll(max(0, within_s) * 1000)
        return self.poll()

    def begin(self, line: bytes) -> bytes:
        """Hand over what can be without waiting; what is left of `line`."""
        try:
            return line[os.write(self.requests, line) :]
        except (BlockingIOError, BrokenPipeError):
            return line

    async def _heard(self) -> bytes:
        while True:
            try:
                return self._leash.recv(4096)
            except BlockingIOError:
                await anyio.wait_readable(self._leash)
            except ConnectionResetError:
                return b""

    def _take(self, chunk: bytes) -> None:
        self._account += chunk
        self._ended = not chunk
        if self._ended:
            for line in self._account.splitlines():
                words = json.loads(line)
                if "code" in words:
                    self._code = words["code"]
                    self.usage = Usage(
                        cpu_s=words["cpu_s"],
                        max_rss_kb=words["max_rss_kb"],
                        out_of_memory=words["overfed"],
                        unwatched=words["unseen"],
                    )

    async def kill(self) -> None:
        """Let go of the leash and wait until the zygote has reaped what hung on it.

        Raises `SandboxError` when that cannot be done.
        """
        with anyio.CancelScope(shield=True):
            if self._ended:
                return
            self._leash.shutdown(socket.SHUT_WR)
            await self.exit_code(within_s=REAP_S)
            if not self._ended:
                raise unkillable()

    def kill_now(self) -> None:
        """`kill`, from where nothing can be awaited."""
        if not self._ended:
            self._leash.shutdown(socket.SHUT_WR)
        end = time.monotonic() + REAP_S
        while not self.poll():
            left_s = end - time.monotonic()
            if left_s < 0:
                raise unkillable()
            self.wait(within_s=left_s)

    def close(self) -> None:
        """Close the parent's ends of the pipes."""
        for pipe in (self.requests, self.answers, self.stdout, self.stderr):
            if pipe != CLOSED:
                os.close(pipe)
        self._leash.close()
