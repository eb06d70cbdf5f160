"""One run of `scillm batch run`: check the input, go on from the journal, write the output."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from scillm.batch.entries import ANSWER, failure_in, start_entry
from scillm.batch.ledger import Ledger, journal_path
from scillm.batch.loop import Batch, Rules
from scillm.batch.openai_files import answer_line, check_input, failure_line, requests_in
from scillm.batch.view import plain_line, replace_file
from scillm.cli.batch_plan import Ended, Plan
from scillm.cli.batch_progress import Shown
from scillm.cli.batch_spend import Till, prices_of, reason_of, rests_told
from scillm.cli.chat import key_from
from scillm.errors import (
    AmbiguousModelError,
    AuthenticationError,
    BudgetExceededError,
    PaymentRequiredError,
    PluginError,
    ScillmError,
    SettingsError,
    UnknownModelError,
    UnknownPriceError,
    UsageError,
)
from scillm.runs.chain import JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from scillm.batch.openai_files import BatchInput, BatchRequest
    from scillm.batch.progress import Progress
    from scillm.models import Completion
    from scillm.records import Json
    from scillm.resilience.spend import Account
    from scillm.routing.router import Router
    from scillm.runs.journal import Row

FOR_ALL = (
    AuthenticationError,
    PaymentRequiredError,
    BudgetExceededError,
    UnknownPriceError,
    SettingsError,
)
"""Errors that every further request would meet too: the batch stops, and nothing is given up."""

INPUT_CHANGED = (
    "{} was changed while it was read: requests that it had at the start were not found. What was "
    "answered is kept; leave the file alone, and run the same command again."
)

OF_THE_MODEL = (PluginError, UnknownModelError, AmbiguousModelError)
"""The same, when one model was named for all requests."""


def run_plan(plan: Plan) -> Ended:
    """Do what the command line says."""
    if plan.in_path.resolve() == plan.out_path.resolve():
        raise UsageError(f"{plan.in_path} cannot be the input and the output; name another file.")
    if plan.out_path.exists() and not journal_path(plan.out_path).exists():
        raise UsageError(
            f"{plan.out_path} is there already, but was not written by a batch (it has no "
            f"{journal_path(plan.out_path).name}). Move it away, or name another output."
        )
    if plan.api_base is not None and "://" not in plan.api_base:
        # It would be the failure of every request, each written down.
        raise UsageError(
            f"--api-base must be a URL such as http://127.0.0.1:8000/v1, but is {plan.api_base!r}."
        )
    api_key = key_from(plan.api_key_env) if plan.api_key_env else None
    asked = checked_input(plan)
    given: dict[str, str] = {}

    def answered(row: Row) -> None:
        if row.data["kind"] == ANSWER:
            given[row.data["id"]] = row.data["row"]["out"]["request"]

    with _opened(journal_path(plan.out_path), answered) as ledger:
        refuse_changed(asked, given, plan)
        return _run(plan, asked, ledger, api_key)


def _opened(path: Path, visit: Callable[[Row], None]) -> Ledger:
    try:
        return Ledger(path, visit=visit)
    except OSError as error:
        raise UsageError(
            f"{path} must be a file that can be written, but: {error.strerror}. Name an OUT.jsonl "
            "in another folder; nothing was sent."
        ) from error


def _run(plan: Plan, asked: BatchInput, ledger: Ledger, api_key: str | None) -> Ended:
    from scillm.routing.router import Router

    def is_open(custom_id: str) -> bool:
        return custom_id not in ledger.index.answered and custom_id not in ledger.index.failed

    total = len(asked.digests)
    if any(map(is_open, asked.digests)):
        # An output that exists is whole; this one lacks a request.
        plan.out_path.unlink(missing_ok=True)
    till = Till(plan, ledger.index.spent)
    router = Router(budget=till.account, prices=prices_of(plan))
    ledger.record([start_entry(plan.about(total), at=round(time.time(), 3))])

    def more() -> list[str]:
        told = till.told()
        rests = rests_told(router.resting(), datetime.now().astimezone())
        return [told, *rests] if told else rests

    with plan.in_path.open("rb") as lines, Shown(total, more) as shown:
        rules = Rules(
            width=plan.concurrency,
            retry_failed=plan.retry_failed,
            stop_on=FOR_ALL + (OF_THE_MODEL if plan.model else ()),
            drain_on=(BudgetExceededError,),
            spend_of=till.spend_of,
            on_progress=shown.update,
        )
        items = requests_in(lines, needs_model=not plan.model)
        ended_by = anyio.run(partial(_ask_all, plan, items, ledger, rules, router, till, api_key))
    progress, stopped_by, error = ended_by
    is_written = not any(map(is_open, asked.digests))
    if is_written:
        _write(plan, output_lines(asked.digests, ledger))
    told = Ended(
        requests=total,
        answered=sum(custom_id in ledger.index.answered for custom_id in asked.digests),
        failed=sum(custom_id in ledger.index.failed for custom_id in asked.digests),
        progress=progress,
        spent=dict(ledger.index.spent),
        is_written=is_written,
    )
    if is_written and stopped_by is None and error is None:
        return evolve(told, exit_code=0 if told.is_whole else 1)
    is_missing = stopped_by is None and error is None
    return evolve(
        told,
        reason=INPUT_CHANGED.format(plan.in_path) if is_missing else reason_of(error),
        resume=plan.again(retry_failed=plan.retry_failed),
        exit_code=1 if stopped_by is None else 128 + stopped_by,
    )


def _write(plan: Plan, lines: Iterator[bytes]) -> None:
    try:
        replace_file(plan.out_path, lines)
    except OSError as error:
        raise JournalError(
            f"{plan.out_path} could not be written: {error.strerror}. Every answer is safe in its "
            "journal; make room, or whatever is missing, and run the same command again."
        ) from error


def checked_input(plan: Plan) -> BatchInput:
    """The input, read to its end; `UsageError` when it is not one."""
    try:
        if not stat.S_ISREG(plan.in_path.stat().st_mode):
            raise UsageError(
                f"{plan.in_path} must be an ordinary file, because it is read twice, and again by "
                "the command that goes on; what came is none. Save it to a file first."
            )
        with plan.in_path.open("rb") as lines:
            asked = check_input(lines, needs_model=not plan.model)
    except OSError as error:
        raise UsageError(f"{plan.in_path} cannot be read: {error.strerror}.") from error
    asked.require_sound(str(plan.in_path))
    return asked


def refuse_changed(asked: BatchInput, given: Mapping[str, str], plan: Plan) -> None:
    """Raise `UsageError` when a request was changed after it was answered."""
    changed = [name for name, was in given.items() if asked.digests.get(name, was) != was]
    if changed:
        raise UsageError(
            f"{len(changed)} requests of {plan.in_path} were changed after they were answered, the "
            f"first is {changed[0]!r}. Give them new ids, or another output than {plan.out_path}."
        )


async def _ask_all(
    plan: Plan,
    items: Iterator[BatchRequest],
    ledger: Ledger,
    rules: Rules,
    router: Router,
    till: Till,
    api_key: str | None,
) -> tuple[Progress, int | None, ScillmError | None]:
    """Counts, the signal that stopped the run, and the error that did."""
    stopped_by: list[int] = []
    error: ScillmError | None = None
    async with router:

        async def ask(request: BatchRequest) -> Json:
            answer = await till.paid(request.custom_id, partial(answered, request))
            return {"request": request.digest(), "body": answer.to_dict()}

        async def answered(request: BatchRequest, account: Account) -> Completion:
            rest = {k: v for k, v in request.body.items() if k not in OURS}
            return await router.acompletion(
                plan.model or request.body["model"],
                request.body["messages"],
                api_base=plan.api_base,
                api_key=api_key,
                timeout=plan.timeout_s,
                retry_enabled=plan.retry,
                extra_body=rest,
                budget=account,
            )

        batch = Batch(items, id_key="custom_id", fn=ask, ledger=ledger, rules=rules)
        async with anyio.create_task_group() as group:
            running = anyio.CancelScope()
            group.start_soon(_stop_on_signal, running, batch, stopped_by.append)
            group.start_soon(_keep_shown, rules, batch)
            with running:
                try:
                    await batch.run()
                except ScillmError as stopper:
                    error = stopper
            group.cancel_scope.cancel()
    return batch.progress, stopped_by[0] if stopped_by else None, error


SHOWN_EVERY_S = 1.0
OURS = ("model", "messages", "stream")
"""Fields of a body that are not passed on as they are; `stream` can only be off."""


async def _keep_shown(rules: Rules, batch: Batch) -> None:
    """Show the progress also while nothing ends, because somebody rests."""
    while rules.on_progress is not None:
        await anyio.sleep(SHOWN_EVERY_S)
        rules.on_progress(batch.progress)


async def _stop_on_signal(
    running: anyio.CancelScope, batch: Batch, tell: Callable[[int], None]
) -> None:
    """A first signal lets what is in flight end, a second does not, a third ends the process."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            tell(int(number))
            if running.cancel_called:
                batch.abandon()
                return
            running.cancel()


def output_lines(custom_ids: Mapping[str, str], ledger: Ledger) -> Iterator[bytes]:
    """The output, in the order of the input."""
    index = ledger.index
    offsets = {**index.failed, **index.answered}
    for row in ledger.rows(offsets[name] for name in custom_ids):
        short = row.hash[:24]
        if row.data["kind"] == ANSWER:
            body = row.data["row"]["out"]["body"]
            yield plain_line(answer_line(row.data["id"], body, id=short))
        else:
            yield plain_line(failure_line(failure_in(row.data), id=short))
