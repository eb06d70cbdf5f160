"""`run_batch`: every item answered once, over as many runs and crashes as that takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread

from scillm import portal
from scillm.batch.checkpoint import JsonlCheckpoint
from scillm.batch.loop import DEFAULT_CONCURRENCY, GRACE_S, Batch, Rules
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.batch.buckets import TokenBucket
    from scillm.batch.loop import Waits
    from scillm.batch.progress import Progress
    from scillm.records import Json

Item = TypeVar("Item")

log = logging.getLogger("scillm.batch")

ABANDONED_S = 5.0
"""How long calls that are cut off may take to notice."""


async def run_batch(
    items: Iterable[Item],
    id_key: str,
    fn: Callable[[Item], Awaitable[Json] | Json],
    checkpoint_path: str | Path,
    *,
    bucket: TokenBucket | Waits | None = None,
    max_concurrency: int | None = None,
    retry_failed: bool = True,
    stop_on: tuple[type[Exception], ...] = (),
    grace_s: float = GRACE_S,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Call `fn` on every item without an answer; returns the path of the results.

    Each answer is a line `{id_key: id, "out": answer}` of `checkpoint_path`, on the disk before
    the next item is taken. An item that raises, or has no id, becomes a stated failure
    (`JsonlCheckpoint(checkpoint_path, id_key).failures()`) and stops nobody; later runs try it
    again, unless `retry_failed` is off. Errors of `stop_on` end the run instead. An id that comes
    twice is asked once. After a kill, at most what was in flight is asked again.

    `items` is read as workers become free. `fn` is a coroutine function, or an ordinary function,
    which then runs in threads. `max_concurrency` is 16 unless given. A cancelled run gives what is
    in flight `grace_s` seconds to end. `on_progress` is called on the event loop.
    """
    rules = _rules(
        bucket=bucket,
        max_concurrency=max_concurrency,
        retry_failed=retry_failed,
        stop_on=stop_on,
        grace_s=grace_s,
        on_progress=on_progress,
    )
    return await _run(items, id_key, fn, checkpoint_path, rules=rules, begun=lambda _: None)


async def _run(
    items: Iterable[Item],
    id_key: str,
    fn: Callable[[Item], Awaitable[Json] | Json],
    checkpoint_path: str | Path,
    *,
    rules: Rules,
    begun: Callable[[Batch], None],
) -> Path:
    if not callable(fn):
        raise UsageError(f"fn must be a function that answers one item, but is {fn!r}.")
    is_read = hasattr(items, "__iter__") or hasattr(items, "__getitem__")
    if isinstance(items, (str, bytes, Mapping)) or not is_read:
        kind = type(items).__name__
        raise UsageError(f"items must be a list or a generator of items, but is a {kind}.")
    with JsonlCheckpoint(checkpoint_path, id_key) as checkpoint:
        ledger = await to_thread.run_sync(checkpoint.ledger)
        batch = Batch(items, id_key=id_key, fn=fn, ledger=ledger, rules=rules)
        begun(batch)
        try:
            await batch.run()
        except BaseException:
            _say_stopped(batch.progress, checkpoint.results_path)
            raise
    _say_rest(batch, checkpoint.results_path)
    return checkpoint.results_path


def run_batch_sync(
    items: Iterable[Item],
    id_key: str,
    fn: Callable[[Item], Awaitable[Json] | Json],
    checkpoint_path: str | Path,
    *,
    bucket: TokenBucket | Waits | None = None,
    max_concurrency: int | None = None,
    retry_failed: bool = True,
    stop_on: tuple[type[Exception], ...] = (),
    grace_s: float = GRACE_S,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """The synchronous form of `run_batch`, run on the background loop.

    Ctrl-C finishes what is in flight, a second one cuts it off.
    """
    rules = _rules(
        bucket=bucket,
        max_concurrency=max_concurrency,
        retry_failed=retry_failed,
        stop_on=stop_on,
        grace_s=grace_s,
        on_progress=on_progress,
    )
    ended = threading.Event()
    batches: list[Batch] = []

    async def run() -> Path:
        try:
            return await _run(items, id_key, fn, checkpoint_path, rules=rules, begun=batches.append)
        finally:
            ended.set()

    async def abandon() -> None:
        for batch in batches:
            batch.abandon()

    future = portal.start(run)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        try:
            ended.wait()
        except KeyboardInterrupt:
            portal.start(abandon)
            ended.wait(ABANDONED_S)
            raise
        raise


def _rules(*, max_concurrency: int | None, **others: Any) -> Rules:
    width = DEFAULT_CONCURRENCY if max_concurrency is None else max_concurrency
    return Rules(width=width, **others)


def _say_stopped(progress: Progress, path: Path) -> None:
    log.warning(
        "The batch stopped with %d answered and %d failed in this run, %d cut off in flight. "
        "Run it again with the same checkpoint, %s, to go on.",
        progress.answered,
        progress.failed,
        progress.dropped,
        path,
    )


def _say_rest(batch: Batch, path: Path) -> None:
    told = batch.progress
    if told.duplicates:
        log.warning(
            "%d items were not asked because their id came before in the same input: %s%s.",
            told.duplicates,
            ", ".join(map(repr, batch.repeated)),
            ", …" if told.duplicates > len(batch.repeated) else "",
        )
    if told.failed:
        log.warning(
            "%d items have no answer; JsonlCheckpoint(%r).failures() says why.",
            told.failed,
            str(path),
        )
