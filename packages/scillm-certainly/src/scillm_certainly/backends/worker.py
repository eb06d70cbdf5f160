"""One warm Lean: started, asked one thing at a time, ended at its deadline."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import anyio
from attrs import evolve
from scillm.errors import ProverError

from scillm_certainly import protocol
from scillm_certainly.backends.process import Process
from scillm_certainly.intake import imports_of
from scillm_certainly.records import CheckRequest, Facts, Lean

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.backends.lines import Lines
    from scillm_certainly.backends.records import Backend

START_S = 180.0


class Worker:
    """A Lean process with our checker in it. Remembers what it did, and which imports are warm.

    It either reads code or judges what another one read; a pool sees to it that none does both.
    """

    def __init__(self, backend: Backend, process: Lines | None = None) -> None:
        """Start the process, or take one; it warms up by itself, whether it is awaited or not."""
        self.backend = backend
        self.process: Lines = process or Process(
            backend.command, backend.environment, memory_mb=backend.memory_mb
        )
        self.lean = Lean(backend=backend.name, package=backend.package, driver=backend.driver)
        self.is_ready = False
        self._launched: dict[str, Json] | None = None
        self.checks = 0
        self.warm: set[tuple[str, ...]] = {()}
        self.tainted = False
        """Whether it ran a program of some code, and so may say anything about the next."""

    @property
    def alive(self) -> bool:
        """Whether it can take another check."""
        return self.process.alive

    async def ready(self, *, within_s: float = START_S) -> None:
        """Wait until it listens; raises `ProverError` with what it said when it never does."""
        if self.is_ready:
            return
        try:
            with anyio.fail_after(within_s):
                # Who waits may be cancelled; the process goes on, and the next one waits on.
                if self._launched is None:
                    self._launched = await self._answer(protocol.LAUNCHED)
                told = await self._answer(protocol.READY)
        except TimeoutError as error:
            self.close()
            raise ProverError(
                f"Lean ({self.backend.name}) was not ready after {within_s:g} s. {self._last()}"
            ) from error
        except ProverError:
            self.close()
            raise
        self.lean = evolve(
            self.lean,
            version=str(told["version"]).split(",")[0],
            commit=str(told["commit"]),
            axioms_complete=bool(told["axiomsComplete"]),
            confinement=self._launched,
        )
        self.is_ready = True

    async def check(self, request: CheckRequest, *, limit_s: float) -> Facts:
        """What is found in `request.code`, believed by nobody; a worker that fails is gone."""
        nonce = self._next()
        line = protocol.question(request, number=self.checks, nonce=nonce)
        return await self._asked(line, nonce, request, limit_s=limit_s)

    async def reference(self, request: CheckRequest, *, limit_s: float) -> Facts:
        """What is found in `request.reference`, with what `request.code` imports."""
        nonce = self._next()
        line = protocol.reference_question(request, number=self.checks, nonce=nonce)
        return await self._asked(line, nonce, request, limit_s=limit_s)

    async def judge(
        self, request: CheckRequest, seen: Facts, reference: Facts | None, *, limit_s: float
    ) -> Facts:
        """`seen` with what the kernel says of its declarations, which another worker exported."""
        nonce = self._next()
        line = protocol.judge_question(request, seen, reference, number=self.checks, nonce=nonce)
        told = await self._asked(line, nonce, request, limit_s=limit_s)
        return protocol.judged(seen, reference, told)

    def _next(self) -> str:
        self.checks += 1
        return secrets.token_hex(16)

    async def _asked(
        self, line: bytes, nonce: str, request: CheckRequest, *, limit_s: float
    ) -> Facts:
        try:
            with anyio.fail_after(limit_s):
                await self.process.write(line)
                document = await self._answer(nonce)
                facts = protocol.facts_of(document, number=self.checks)
        except TimeoutError:
            self.close()
            return Facts(fault=f"not done within {limit_s:g} s", fault_kind="timeout")
        except ProverError as error:
            self.close()
            return Facts(fault=error.message, fault_kind="died")
        except BaseException:
            # Whatever it is in the middle of, its next answer would not be ours.
            self.close()
            raise
        self.warm.add(imports_of(request.code))
        return facts

    async def _answer(self, nonce: str) -> dict[str, Json]:
        while (line := await self.process.line()) is not None:
            if line == protocol.RUNS:
                # Said before anything ran, so no program can have kept it back.
                self.tainted = True
                continue
            document = protocol.answer(line, nonce)
            if document is not None:
                return dict(document)
            self.process.note(line)
        raise ProverError(f"Lean ({self.backend.name}) ended by itself. {self._last()}".strip())

    def _last(self) -> str:
        tail = self.process.tail
        return f"It last wrote: {json.dumps(tail, ensure_ascii=False)}" if tail else ""

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self.process.kill()
