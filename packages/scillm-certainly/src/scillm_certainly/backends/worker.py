"""One warm Lean: started, asked one check at a time, ended at its deadline."""

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
from scillm_certainly.programs import may_corrupt, runs_programs
from scillm_certainly.records import CheckRequest, Facts, Lean

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.backends.records import Backend

START_S = 180.0


class Worker:
    """A Lean process with our checker in it. Remembers what it did, and which imports are warm."""

    def __init__(self, backend: Backend) -> None:
        """Start the process; it warms up by itself, whether it is awaited or not."""
        self.backend = backend
        self.process = Process(backend.command, backend.environment, memory_mb=backend.memory_mb)
        self.lean = Lean(backend=backend.name, package=backend.package, driver=backend.driver)
        self.is_ready = False
        self._launched: dict[str, Json] | None = None
        self.checks = 0
        self.warm: set[tuple[str, ...]] = {()}
        self.tainted = False
        self.rough = False
        """Whether it is kept for files that run programs; alone, its word proves nothing."""

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

    async def check(self, request: CheckRequest) -> Facts:
        """What Lean finds in `request.code`; a worker that fails is gone and says why."""
        self.checks += 1
        nonce = secrets.token_hex(16)
        line = protocol.question(request, number=self.checks, nonce=nonce, export=self.rough)
        facts = await self._asked(line, nonce, request, limit_s=request.policy.time_s)
        if facts.user_code and not self.rough:
            self.tainted = True
        if self.rough and (facts.tainted or may_corrupt(request.code)):
            self.tainted = True
        return facts

    async def replay(self, request: CheckRequest, exported: str, *, limit_s: float) -> Facts:
        """What the kernel says of declarations that another worker exported for `request`."""
        self.checks += 1
        nonce = secrets.token_hex(16)
        line = protocol.replay_question(request, exported, number=self.checks, nonce=nonce)
        # The reference is the caller's own word; but if it runs programs, they ran here.
        self.tainted = runs_programs(request.reference or "")
        return await self._asked(line, nonce, request, limit_s=limit_s)

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
