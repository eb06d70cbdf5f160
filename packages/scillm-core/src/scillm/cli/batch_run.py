"""One run of `scillm batch run`: check the input, go on from the journal, write the output."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import evolve, frozen

from scillm.batch.entries import ANSWER, failure_in, start_entry
from scillm.batch.ledger import Ledger, journal_path
from scillm.batch.loop import Batch, Rules
from scillm.batch.openai_files import answer_line, check_input, failure_line, requests_in
from scillm.batch.view import plain_line, replace_file
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

if TYPE_CHECKING:
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

OF_THE_MODEL = (PluginError, UnknownModelError, AmbiguousModelError)
"""The same, when one model was named for all requests."""

CREDENTIALS = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")


@frozen(kw_only=True)
class Plan:
    """What was asked on the command line."""

    in_path: Path
    out_path: Path
    model: str | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout_s: float | None = None
    retry: bool = True
    retry_failed: bool = False
    budget_usd: float | None = None
    budget_tokens: int | None = None
    budget_requests: int | None = None
    input_price: float | None = None
    output_price: float | None = None

    def again(self, *, retry_failed: bool) -> str:
        """The command line that goes on with this batch."""
        given = {
            "-m": self.model,
            "--api-base": self.api_base,
            "--api-key-env": self.api_key_env,
            "--concurrency": self.concurrency,
            "--timeout": self.timeout_s,
            "--budget-usd": self.budget_usd,
            "--budget-tokens": self.budget_tokens,
            "--budget-requests": self.budget_requests,
            "--input-price": self.input_price,
            "--output-price": self.output_price,
        }
        words = ["scillm", "batch", "run", str(self.in_path), str(self.out_path)]
        for name, value in given.items():
            words += [] if value is None else [name, str(value)]
        flags = {"--no-retry": not self.retry, "--retry-failed": retry_failed}
        return shlex.join([*words, *(flag for flag, given in flags.items() if given)])

    def about(self, requests: int) -> dict[str, Json]:
        """What the journal says about this run."""
        return {
            "input": str(self.in_path),
            "requests": requests,
            "model": self.model,
            "api_base": CREDENTIALS.sub("***", self.api_base) if self.api_base else None,
            "concurrency": self.concurrency,
            "retry_failed": self.retry_failed,
            "budget_usd": self.budget_usd,
            "budget_tokens": self.budget_tokens,
            "budget_requests": self.budget_requests,
        }


@frozen(kw_only=True)
class Ended:
    """How a run ended. `answered` and `failed` are those of the whole batch."""

    requests: int
    answered: int
    failed: int
    progress: Progress
    spent: Mapping[str, int]
    """Of the whole batch: requests, tokens, picodollars."""
    is_written: bool
    """Whether the output is there."""
    reason: str = ""
    """Why it ended early."""
    resume: str = ""
    exit_code: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every request has its answer."""
        return self.answered == self.requests


def run_plan(plan: Plan) -> Ended:
    """Do what the command line says."""
    if plan.in_path.resolve() == plan.out_path.resolve():
        raise UsageError(f"{plan.in_path} cannot be the input and the output; name another file.")
    if plan.out_path.exists() and not journal_path(plan.out_path).exists():
        raise UsageError(
            f"{plan.out_path} is there already, but was not written by a batch (it has no "
            f"{journal_path(plan.out_path).name}). Move it away, or name another output."
        )
    api_key = key_from(plan.api_key_env) if plan.api_key_env else None
    asked = checked_input(plan)
    given: dict[str, str] = {}

    def answered(row: Row) -> None:
        if row.data["kind"] == ANSWER:
            given[row.data["id"]] = row.data["row"]["out"]["request"]

    with Ledger(journal_path(plan.out_path), visit=answered) as ledger:
        refuse_changed(asked, given, plan)
        return _run(plan, asked, ledger, api_key)


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
        replace_file(plan.out_path, output_lines(asked.digests, ledger))
    told = Ended(
        requests=total,
        answered=sum(custom_id in ledger.index.answered for custom_id in asked.digests),
        failed=sum(custom_id in ledger.index.failed for custom_id in asked.digests),
        progress=progress,
        spent=dict(ledger.index.spent),
        is_written=is_written,
    )
    if stopped_by is None and error is None:
        return evolve(told, exit_code=0 if told.is_whole else 1)
    return evolve(
        told,
        reason=reason_of(error),
        resume=plan.again(retry_failed=plan.retry_failed),
        exit_code=1 if stopped_by is None else 128 + stopped_by,
    )


def checked_input(plan: Plan) -> BatchInput:
    """The input, read to its end; `UsageError` when it is not one."""
    try:
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
            with running:
                try:
                    await batch.run()
                except ScillmError as stopper:
                    error = stopper
            group.cancel_scope.cancel()
    return batch.progress, stopped_by[0] if stopped_by else None, error


OURS = ("model", "messages", "stream")
"""Fields of a body that are not passed on as they are; `stream` can only be off."""


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
