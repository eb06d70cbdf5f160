"""The batch loop: takes items as workers become free, asks, and writes down what came."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anyio
from anyio import lowlevel, to_thread
from attrs import evolve, frozen

from scillm.batch.buckets import TokenBucket
from scillm.batch.entries import (
    answer_entry,
    failure_entry,
    failure_of,
    spent_entry,
    text_id,
    with_spend,
    without_id,
)
from scillm.batch.progress import Progress
from scillm.batch.scribe import Scribe
from scillm.errors import UsageError
from scillm.models import OpenAIRecord
from scillm.runs.chain import json_text

if TYPE_CHECKING:
    from scillm.batch.entries import Failure
    from scillm.batch.ledger import Ledger
    from scillm.records import Json

Item = TypeVar("Item")

DEFAULT_CONCURRENCY = 16
GRACE_S = 30.0
"""How long a stopped run waits for what is in flight."""

BREATH = 256
"""Items that are skipped before other tasks get their turn."""


class Waits(Protocol):
    """A bucket whose tokens are awaited."""

    def acquire(self) -> Awaitable[object]:
        """A token, when it is awaited."""
        ...


@frozen(kw_only=True)
class Rules:
    """How a batch runs."""

    width: int = DEFAULT_CONCURRENCY
    bucket: TokenBucket | Waits | None = None
    retry_failed: bool = True
    """Ask again what an earlier run stated as failed."""
    stop_on: tuple[type[Exception], ...] = ()
    """Errors that end the run instead of being one item's failure."""
    drain_on: tuple[type[Exception], ...] = ()
    """Those of them that let what is in flight end, however long it takes."""
    spend_of: Callable[[str], Mapping[str, int]] | None = None
    """What asking an item has cost, by its id; written down with its outcome."""
    grace_s: float = GRACE_S
    on_progress: Callable[[Progress], None] | None = None

    def __attrs_post_init__(self) -> None:
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width < 1:
            raise UsageError(f"max_concurrency must be at least 1, but is {self.width!r}.")
        if not (isinstance(self.grace_s, (int, float)) and self.grace_s >= 0):
            raise UsageError(f"grace_s must be seconds, 0 or more, but is {self.grace_s!r}.")
        for name, errors in (("stop_on", self.stop_on), ("drain_on", self.drain_on)):
            if not isinstance(errors, tuple) or not all(map(_is_error_class, errors)):
                raise UsageError(f"{name} must be a tuple of exception classes, not {errors!r}.")
        if self.bucket is not None and not callable(getattr(self.bucket, "acquire", None)):
            raise UsageError(
                f"bucket must be a TokenBucket or an AsyncTokenBucket, not {self.bucket!r}."
            )


def _is_error_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


class Batch:
    """One run over one input. Remembers ids seen, counts, and what is in flight.

    A function that is not a coroutine function is called in a thread. Cancelling the run stops the
    taking of items; those in flight have `grace_s` to end, and are written down.
    """

    def __init__(
        self,
        items: Iterable[Item],
        *,
        id_key: str,
        fn: Callable[[Item], Any],
        ledger: Ledger,
        rules: Rules,
    ) -> None:
        self.progress = Progress()
        self.repeated: list[str] = []
        """The first ids that came more than once."""
        self._source = iter(enumerate(items))
        self._id_key = id_key
        self._fn = cast("Callable[[Any], Any]", fn)
        self._is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
            getattr(fn, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
        )
        self._ledger = ledger
        self._rules = rules
        self._seen: set[str] = set()
        self._flying: set[anyio.CancelScope] = set()
        self._fatal: Exception | None = None

    async def run(self) -> Progress:
        """Deal with every item, then raise what ended the run early, if something did."""
        self._scribe = Scribe(self._ledger)
        self._threads = anyio.CapacityLimiter(self._rules.width)
        self._line = anyio.CapacityLimiter(1)
        self._over = anyio.Event()
        self._at_work = self._rules.width
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            for _ in range(self._rules.width):
                group.start_soon(self._work, group.cancel_scope)
        if self._fatal is not None:
            raise self._fatal
        return self.progress

    def abandon(self) -> None:
        """Do not wait for what is in flight; it is asked again by a later run."""
        for scope in self._flying:
            scope.cancel()

    # -- taking --------------------------------------------------------------------------------

    async def _next(self) -> tuple[str, Any] | None:
        for index, item in self._source:
            if index % BREATH == 0:
                await lowlevel.checkpoint()
            name = text_id(_value(item, self._id_key))
            if name is None:
                await self._nameless(without_id(self._id_key, index, item))
            elif name in self._seen:
                self._tell(duplicates=1)
                if len(self.repeated) < 3:
                    self.repeated.append(name)
            else:
                self._seen.add(name)
                if not self._is_settled(name):
                    return name, item
                self._tell(skipped=1)
        return None

    def _is_settled(self, name: str) -> bool:
        index = self._ledger.index
        return name in index.answered or (name in index.failed and not self._rules.retry_failed)

    async def _nameless(self, failure: Failure) -> None:
        if failure.index in self._ledger.index.nameless:
            self._tell(skipped=1)
            return
        await self._scribe.write(failure_entry(failure, at=time.time(), elapsed_s=0.0))
        self._tell(failed=1)

    async def _token(self) -> None:
        bucket = self._rules.bucket
        if isinstance(bucket, TokenBucket):
            await to_thread.run_sync(bucket.acquire, abandon_on_cancel=True, limiter=self._line)
        elif bucket is not None:
            await bucket.acquire()

    # -- asking --------------------------------------------------------------------------------

    async def _work(self, all_workers: anyio.CancelScope) -> None:
        try:
            while self._fatal is None and (found := await self._next()) is not None:
                await self._token()
                await self._finish(*found)
                await lowlevel.checkpoint()
        except Exception as error:  # noqa: BLE001 - raised by run, bare, when the others have ended
            self._fatal = self._fatal or error
            if isinstance(error, self._rules.drain_on):
                self.progress = evolve(self.progress, stopping=True)
            else:
                all_workers.cancel()
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._over.set()

    async def _finish(self, name: str, item: Any) -> None:
        """Ask and write down, whether the run is stopped meanwhile or not."""
        if self.progress.stopping:
            return
        with anyio.CancelScope(shield=True) as scope:
            self._flying.add(scope)
            self._tell(in_flight=1)
            try:
                is_answer = await self._settle(name, item)
            finally:
                self._flying.discard(scope)
                self._count(in_flight=-1)
            self._tell(**{"answered" if is_answer else "failed": 1})
        if scope.cancelled_caught:
            self._tell(dropped=1)

    async def _settle(self, name: str, item: Any) -> bool:
        started, failure = time.monotonic(), None
        row: dict[str, Json] = {}
        try:
            out = await self._ask(item)
            row = {self._id_key: _value(item, self._id_key), "out": _plain(out)}
            json_text(row)
        except self._rules.stop_on:
            await self._write_spend(name)
            raise
        except anyio.get_cancelled_exc_class():
            await self._write_spend(name)
            raise
        except Exception as error:  # noqa: BLE001 - an item fails alone, with its reason written
            failure = failure_of(error, id=name)
        at, elapsed_s = round(time.time(), 3), round(time.monotonic() - started, 6)
        if failure is not None:
            entry = failure_entry(failure, at=at, elapsed_s=elapsed_s)
        else:
            entry = answer_entry(name, row, at=at, elapsed_s=elapsed_s)
        await self._scribe.write(with_spend(entry, self._spend_of(name)))
        return failure is None

    async def _write_spend(self, name: str) -> None:
        if spend := self._spend_of(name):
            entry = spent_entry(name, at=round(time.time(), 3))
            await self._scribe.write(with_spend(entry, spend))

    def _spend_of(self, name: str) -> Mapping[str, int]:
        return {} if self._rules.spend_of is None else self._rules.spend_of(name)

    async def _ask(self, item: Any) -> Any:
        if self._is_async:
            return await self._fn(item)

        def called() -> list[Any]:
            # Inside a list, because trio refuses to bring a bare coroutine out of a thread.
            return [self._fn(item)]

        (out,) = await to_thread.run_sync(called, limiter=self._threads)
        return await out if inspect.isawaitable(out) else out

    # -- telling and stopping ------------------------------------------------------------------

    async def _watch(self) -> None:
        try:
            await self._over.wait()
        except anyio.get_cancelled_exc_class():
            end = anyio.current_time() + self._rules.grace_s
            for scope in self._flying:
                scope.deadline = end
            self.progress = evolve(self.progress, stopping=True)
            try:
                self._tell()
            except Exception as error:  # noqa: BLE001 - the listener's; raised by run
                self._fatal = self._fatal or error
            raise

    def _count(self, **changes: int) -> None:
        added = {name: getattr(self.progress, name) + by for name, by in changes.items()}
        self.progress = evolve(self.progress, **added)

    def _tell(self, **changes: int) -> None:
        self._count(**changes)
        if self._rules.on_progress is not None:
            self._rules.on_progress(self.progress)


def _value(item: object, id_key: str) -> Json:
    return item.get(id_key) if isinstance(item, Mapping) else getattr(item, id_key, None)


def _plain(out: Json) -> Json:
    return out.to_dict() if isinstance(out, OpenAIRecord) else out
