"""Many checks, few Leans: each check gets a warm worker to itself, or its turn."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
from attrs import evolve, frozen
from scillm.errors import ProverError

from scillm_certainly.backends.confinement import Confinement
from scillm_certainly.backends.records import REPL, Backend
from scillm_certainly.backends.repl import ReplWorker
from scillm_certainly.backends.worker import Worker
from scillm_certainly.errors import QueueFullError
from scillm_certainly.intake import cache_key, checked_policy, fault_of, imports_of
from scillm_certainly.ladder import decide
from scillm_certainly.pool.memory import Memory
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
"""For each step of a check, however long those before it took."""
Step = Callable[[Worker, float], Awaitable[Facts]]
"""What a worker is asked, and how many seconds it has."""


class Checker(Protocol):
    """Whatever turns a request into a verdict: a pool, or the client of a bridge."""

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        """The verdict; raises `QueueFullError` when there is no room, `UsageError` for a policy."""
        ...


@frozen(kw_only=True)
class Size:
    """How large a pool is, and when one of its workers is replaced by a new one."""

    workers: int = 1
    judges: int = 0
    """Processes that judge what the workers read; 0: one for every two of them."""
    spare: bool = True
    queue: int = 256
    one_caller: bool = False
    """Whether a file's programs may change what the files after it are taken to state."""
    recycle_checks: int = 5_000
    recycle_mb: int = 2_600
    cache_entries: int = 2_000


class Pool:
    """A pool on one event loop. Remembers its workers and the verdicts they gave.

    A check is two steps. One Lean reads the code, and hands its declarations over as text; another,
    which reads none and so runs none of its programs, puts them through the kernel and compares
    them with the reference. Only the second one's word makes `proved`.

    Lean starts when it is first needed. The spare starts once one is at work and waits, warm, for
    one that has to be ended. A Lean that ran programs of what it read is not used again: it might
    read the next file as something else.
    """

    def __init__(self, backend: Backend, size: Size | None = None) -> None:
        self.backend = backend
        self.size = Size() if size is None else size
        self._slots = anyio.CapacityLimiter(self.size.workers)
        self._seats = anyio.CapacityLimiter(self.size.judges or (self.size.workers + 1) // 2)
        self._idle: list[Worker] = []
        self._judges: list[Worker] = []
        self._busy: set[Worker] = set()
        self._spare: Worker | None = None
        self._confinement = Confinement(backend)
        self._memory = Memory(entries=self.size.cache_entries)
        self._waiting = 0
        self._typical_s = FIRST_GUESS_S
        self._lean = Lean(backend=backend.name, package=backend.package, driver=backend.driver)
        self._counts = {"checks": 0, "started": 0, "ended": 0, "recycled": 0}

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

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
            await self._by_reader((), _nothing, LEAST_S)
            if self._is_judged:
                await self._by_judge((), _nothing, LEAST_S)
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
        """What is found, step by step in the time there is; `ProverError` if no Lean starts."""
        started, imports, left_s = time.monotonic(), imports_of(request.code), request.policy.time_s
        reference: Facts | None = None
        if self._is_judged and request.reference is not None:
            # Before the answer, whose programs could change what its text means.
            reference, lean, left_s = await self._by_reader(imports, _reference(request), left_s)
            if reference.fault:
                return reference, lean
        facts, lean, left_s = await self._by_reader(imports, _reading(request), left_s)
        if self._is_judged and not facts.fault:
            step = _judging(request, facts, reference)
            facts, lean, _ = await self._by_judge(imports, step, left_s)
        self._typical_s += SMOOTHING * (time.monotonic() - started - self._typical_s)
        return facts, lean

    @property
    def _is_judged(self) -> bool:
        """Whether this Lean can judge what another one read; a REPL cannot."""
        return self.backend.dialect != REPL

    async def _by_reader(
        self, imports: tuple[str, ...], step: Step, limit_s: float
    ) -> tuple[Facts, Lean, float]:
        if self._is_judged and not self._judges and self._seats.borrowed_tokens == 0:
            # It will be wanted next, and starts meanwhile.
            await self._confinement.open()
            self._judges.append(self._from_spare() or self._launch())
        return await self._by_one(self._idle, imports, step, limit_s)

    async def _by_judge(
        self, imports: tuple[str, ...], step: Step, limit_s: float
    ) -> tuple[Facts, Lean, float]:
        async with self._seats:
            return await self._by_one(self._judges, imports, step, limit_s)

    async def _by_one(
        self, idle: list[Worker], imports: tuple[str, ...], step: Step, limit_s: float
    ) -> tuple[Facts, Lean, float]:
        """What one worker of a kind finds, which Lean it is, and what is left of the seconds."""
        worker = await self._take(idle, imports)
        started = time.monotonic()
        try:
            facts = await step(worker, limit_s)
        finally:
            self._give(worker, idle)
        return facts, worker.lean, max(LEAST_S, limit_s - (time.monotonic() - started))

    async def _take(self, idle: list[Worker], imports: tuple[str, ...]) -> Worker:
        await self._confinement.open()
        idle[:] = [worker for worker in idle if self._usable(worker)]
        worker = next((one for one in idle if imports in one.warm), idle[0] if idle else None)
        if worker is not None:
            idle.remove(worker)
        else:
            worker = self._from_spare() or self._launch()
        try:
            await worker.ready()
        except BaseException:
            # Only who waited is gone; a worker that still warms up is kept for the next.
            self._give(worker, idle)
            raise
        self._busy.add(worker)
        if worker.lean.commit != self._lean.commit:
            self._memory.forget()
        self._lean = worker.lean
        if self.size.spare and (self._spare is None or not self._spare.alive):
            self._spare = self._launch()
        return worker

    def _give(self, worker: Worker, idle: list[Worker]) -> None:
        self._busy.discard(worker)
        if self._usable(worker):
            idle.append(worker)

    def _usable(self, worker: Worker) -> bool:
        """Whether a worker may be asked again; one that may not is ended here."""
        if not worker.alive:
            self._counts["ended"] += 1
            worker.close()
            return False
        worn = (
            (worker.tainted and not self.size.one_caller)
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
        return kind(self.backend, self._confinement.start())

    def stats(self) -> Mapping[str, Json]:
        """Counts for a metrics page: workers, queue, checks, restarts, cache, memory."""
        live = [*self._idle, *self._judges, *self._busy, *([self._spare] if self._spare else [])]
        return {
            **self._counts,
            "workers": self.size.workers,
            "judges": len(self._judges) + int(self._seats.borrowed_tokens),
            "alive": sum(worker.alive for worker in live),
            "busy": len(self._busy),
            "waiting": self._waiting,
            "cached": len(self._memory),
            "cache_hits": self._memory.hits,
            "rss_mb": sum(worker.process.rss_mb() for worker in live if worker.alive),
            "typical_s": round(self._typical_s, 4),
        }

    async def aclose(self) -> None:
        """End every worker, and the sandbox they were in; a second call does nothing."""
        self.close()
        await self._confinement.aclose()

    def close(self) -> None:
        """End every worker; a second call does nothing."""
        spare = [] if self._spare is None else [self._spare]
        for worker in (*self._idle, *self._judges, *self._busy, *spare):
            worker.close()
        self._idle.clear()
        self._judges.clear()
        self._spare = None


def _reference(request: CheckRequest) -> Step:
    return lambda worker, limit_s: worker.reference(request, limit_s=limit_s)


def _reading(request: CheckRequest) -> Step:
    return lambda worker, limit_s: worker.check(request, limit_s=limit_s)


def _judging(request: CheckRequest, seen: Facts, reference: Facts | None) -> Step:
    return lambda worker, limit_s: worker.judge(request, seen, reference, limit_s=limit_s)


async def _nothing(_worker: Worker, _limit_s: float) -> Facts:
    return Facts()
