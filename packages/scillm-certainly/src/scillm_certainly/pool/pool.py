"""Many checks, few Leans: each check gets a warm worker to itself, or its turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
from attrs import evolve, frozen
from scillm.errors import ProverError

from scillm_certainly.backends.records import REPL, Backend
from scillm_certainly.backends.repl import ReplWorker
from scillm_certainly.backends.worker import Worker
from scillm_certainly.errors import QueueFullError
from scillm_certainly.intake import cache_key, checked_policy, fault_of, imports_of
from scillm_certainly.ladder import decide
from scillm_certainly.pool.memory import Memory
from scillm_certainly.programs import runs_programs
from scillm_certainly.protocol import replayed_apart
from scillm_certainly.records import (
    INCONCLUSIVE,
    CheckRequest,
    Facts,
    Lean,
    ProofVerdict,
)

if TYPE_CHECKING:
    from scillm.records import Json

FIRST_GUESS_S = 1.0
SMOOTHING = 0.2
LEAST_S = 1.0
"""For the second worker, however long the first one took."""


class Checker(Protocol):
    """Whatever turns a request into a verdict: a pool, or the client of a bridge."""

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        """The verdict; raises `QueueFullError` when there is no room, `UsageError` for a policy."""
        ...


@frozen(kw_only=True)
class Size:
    """How large a pool is, and when one of its workers is replaced by a new one."""

    workers: int = 1
    spare: bool = True
    queue: int = 256
    recycle_checks: int = 5_000
    recycle_mb: int = 2_600
    cache_entries: int = 2_000
    apart: bool = False
    """Whether every file is taken for one that runs programs."""


class Pool:
    """A pool on one event loop. Remembers its workers and the verdicts they gave.

    Workers start when they are first needed. The spare starts once a worker is at work and waits,
    warm, for one that has to be ended. Every check begins on the untouched environment of its
    imports, and a worker whose checked code could have changed it is not used again.
    """

    def __init__(self, backend: Backend, size: Size | None = None) -> None:
        self.backend = backend
        self.size = Size() if size is None else size
        self._slots = anyio.CapacityLimiter(self.size.workers)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._spare: Worker | None = None
        self._memory = Memory(entries=self.size.cache_entries)
        self._waiting = 0
        self._typical_s = FIRST_GUESS_S
        self._lean = Lean(backend=backend.name, package=backend.package, driver=backend.driver)
        self._counts = {"checks": 0, "started": 0, "ended": 0, "recycled": 0}

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        """The verdict on one request.

        Raises `UsageError` for a policy that cannot be kept, `QueueFullError` when too many wait.
        """
        policy = checked_policy(request.policy)
        fault = fault_of(request)
        if fault:
            return ProofVerdict(
                id=request.id, status=INCONCLUSIVE, reason=fault, limit="malformed", lean=self._lean
            )
        asked = evolve(request, policy=policy)
        started = time.monotonic()
        work = partial(self._in_turn, asked)
        if request.fresh:
            verdict, cached = await work(), False
        else:
            verdict, cached = await self._memory.through(cache_key(asked), work)
        return evolve(
            verdict, id=request.id, cached=cached, wall_s=round(time.monotonic() - started, 6)
        )

    async def warm_up(self) -> Lean:
        """Have one worker ready, and say which Lean it is; `ProverError` when none will start."""
        async with self._slots:
            worker = await self._take((), rough=False)
            self._give(worker)
        return self._lean

    async def _in_turn(self, request: CheckRequest) -> ProofVerdict:
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait()
        try:
            return await self._checked(request)
        finally:
            self._slots.release()

    async def _wait(self) -> None:
        if self._waiting >= self.size.queue:
            wait_s = round(self._typical_s * (self._waiting + 1) / self.size.workers, 1)
            raise QueueFullError(
                f"{self._waiting} checks are waiting, which is the most this pool takes; come "
                f"back in {wait_s:g} s.",
                retry_after=wait_s,
            )
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1

    async def _checked(self, request: CheckRequest) -> ProofVerdict:
        try:
            facts, lean = await self._seen(request)
        except ProverError as error:
            facts, lean = Facts(fault=error.message, fault_kind="unavailable"), self._lean
            return decide(request, facts, lean)
        self._counts["checks"] += 1
        return decide(request, facts, lean)

    async def _seen(self, request: CheckRequest) -> tuple[Facts, Lean]:
        """What is found, by two workers where the file runs programs; `ProverError` if none runs.

        Such a program can rewrite everything in its process, what is answered included. So that
        process only hands over the declarations, and one that never ran them is asked.
        """
        imports, rough = imports_of(request.code), self._is_rough(request)
        facts, lean, took_s = await self._by_one(imports, request, None, rough=rough)
        if facts.user_code and not rough and self.backend.dialect != REPL:
            # Lean saw programs where the text shows none.
            rough = True
            facts, lean, took_s = await self._by_one(imports, request, None, rough=True)
        if not rough:
            return facts, lean
        facts = evolve(facts, rough=True)
        if not decide(request, evolve(facts, apart=True), lean).proved or not facts.exported:
            return facts, lean
        left_s = max(LEAST_S, request.policy.time_s - took_s)
        told, lean, _ = await self._by_one(imports, request, (facts.exported, left_s), rough=False)
        return replayed_apart(facts, told), lean

    def _is_rough(self, request: CheckRequest) -> bool:
        """Whether the check belongs to a worker whose word needs another's."""
        texts = (request.code, request.reference or "")
        runs = self.size.apart or any(runs_programs(text) for text in texts)
        return runs and self.backend.dialect != REPL

    async def _by_one(
        self,
        imports: tuple[str, ...],
        request: CheckRequest,
        exported: tuple[str, float] | None,
        *,
        rough: bool,
    ) -> tuple[Facts, Lean, float]:
        """What one worker finds in a request, or in what another exported (within so many seconds).

        Also which Lean it is, and how long it took; `ProverError` when none will start.
        """
        worker = await self._take(imports, rough=rough)
        started = time.monotonic()
        try:
            if exported is None:
                facts = await worker.check(request)
            else:
                facts = await worker.replay(request, exported[0], limit_s=exported[1])
        finally:
            self._give(worker)
        took_s = time.monotonic() - started
        self._typical_s += SMOOTHING * (took_s - self._typical_s)
        return facts, worker.lean, took_s

    async def _take(self, imports: tuple[str, ...], *, rough: bool) -> Worker:
        self._idle = [worker for worker in self._idle if self._usable(worker)]
        fitting = [worker for worker in self._idle if worker.rough == rough]
        worker = next((one for one in fitting if imports in one.warm), None)
        if worker is None and fitting:
            worker = fitting[0]
        if worker is not None:
            self._idle.remove(worker)
        else:
            worker = self._from_spare() or self._launch()
            worker.rough = rough
        try:
            await worker.ready()
        except BaseException:
            # Only who waited is gone; a worker that still warms up is kept for the next.
            self._give(worker)
            raise
        self._busy.add(worker)
        if worker.lean.commit != self._lean.commit:
            self._memory.forget()
        self._lean = worker.lean
        if self.size.spare and (self._spare is None or not self._spare.alive):
            self._spare = self._launch()
        return worker

    def _give(self, worker: Worker) -> None:
        self._busy.discard(worker)
        if self._usable(worker):
            self._idle.append(worker)

    def _usable(self, worker: Worker) -> bool:
        """Whether a worker may be asked again; one that may not is ended here."""
        if not worker.alive:
            self._counts["ended"] += 1
            worker.close()
            return False
        worn = (
            worker.tainted
            or worker.checks >= self.size.recycle_checks
            or (worker.checks > 0 and worker.process.rss_mb() > self.size.recycle_mb)
        )
        if worn:
            self._counts["recycled"] += 1
            worker.close()
        return not worn

    def _from_spare(self) -> Worker | None:
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.alive else None

    def _launch(self) -> Worker:
        self._counts["started"] += 1
        kind = ReplWorker if self.backend.dialect == REPL else Worker
        return kind(self.backend)

    def stats(self) -> Mapping[str, Json]:
        """Counts for a metrics page: workers, queue, checks, restarts, cache, memory."""
        live = [*self._idle, *self._busy, *([self._spare] if self._spare else [])]
        return {
            **self._counts,
            "workers": self.size.workers,
            "alive": sum(worker.alive for worker in live),
            "busy": len(self._busy),
            "waiting": self._waiting,
            "cached": len(self._memory),
            "cache_hits": self._memory.hits,
            "rss_mb": sum(worker.process.rss_mb() for worker in live if worker.alive),
            "typical_s": round(self._typical_s, 4),
        }

    def close(self) -> None:
        """End every worker; a second call does nothing."""
        spare = [] if self._spare is None else [self._spare]
        for worker in (*self._idle, *self._busy, *spare):
            worker.close()
        self._idle, self._spare = [], None
