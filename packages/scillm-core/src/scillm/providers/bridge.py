"""The client end of any bridge: an Engine that works somewhere else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from scillm.errors import (
    APITimeoutError,
    EngineError,
    MalformedReplyError,
    ProverError,
    ProviderError,
    SandboxError,
    UsageError,
)
from scillm.providers.bridge_wire import PATH, RESULT_PATH, read_result, write_job
from scillm.providers.failures import excerpt, failure, looks_like_html, read_complaint
from scillm.providers.openai_like import encoded, usable_key, user_agent
from scillm.providers.secrets import masked
from scillm.records import HttpCall
from scillm.resilience.retry_after import parse_retry_after

if TYPE_CHECKING:
    from scillm.protocols import Transport
    from scillm.records import HttpReply, Job, JobResult, Json

QUEUE_S = 90.0
"""Added to what the job itself may take: waiting in the server's queue, and the way there."""
JOB_S = 600.0
POLL_S = 1.0
LONGEST_PAUSE_S = 30.0
HELD_S = 20
FAREWELL_S = 2.0
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")

ENGINE_KINDS: Mapping[str, type[EngineError]] = {
    "engine_failed": EngineError,
    "out_of_time": EngineError,
    "result_is_not_json": EngineError,
    "internal_error": EngineError,
    "sandbox_unavailable": SandboxError,
    "prover_unavailable": ProverError,
}
"""Code of a problem → the error that the engine itself would have raised here."""


class BridgeEngine:
    """Runs jobs at the bridge `api_base`. Remembers where that is.

    `timeout_s` bounds one job; by default what the job's `max_seconds` says (else 600 s) and 90 s
    more. `background` lets the bridge answer at once and asks for the result until it is there: for
    work that outlives the patience of something between. A run that is cancelled is cancelled
    there. Nothing is retried: that is the caller's decision.
    """

    def __init__(
        self,
        api_base: str,
        transport: Transport,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
        background: bool = False,
        name: str = "",
    ) -> None:
        self._base = _base(api_base)
        self._transport = transport
        self._timeout_s = timeout_s
        self._background = background
        self._name = name or f"the bridge at {urlsplit(self._base).netloc.rpartition('@')[2]}"
        self._secrets = (token,) if token else ()
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": user_agent(),
        }
        if token:
            self._headers["authorization"] = f"Bearer {usable_key(token)}"

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item of `job` at the bridge.

        Raises `EngineError` (`SandboxError`, `ProverError`) for what the engine there raised,
        else the `ProviderError` for the reply: `BadRequestError` for a job it does not take,
        `RateLimitError` when its queue is full, `APIConnectionError` when nobody is there.
        """
        timeout_s = self._timeout_s or float(job.options.get("max_seconds") or JOB_S) + QUEUE_S
        prefer = {"prefer": "respond-async"} if self._background else {}
        call = HttpCall(
            method="POST",
            url=self._base + PATH,
            headers={**self._headers, **prefer},
            body=encoded(write_job(job)),
            timeout_s=timeout_s,
        )
        deadline = time.monotonic() + timeout_s
        try:
            reply = await self._transport.send(call)
            if reply.status == 202:
                reply = await self._fetched(reply, deadline, timeout_s)
            return self._read(reply)
        except ProviderError as error:
            error.provider = error.provider or job.engine
            raise

    async def _fetched(self, reply: HttpReply, deadline: float, timeout_s: float) -> HttpReply:
        """The result of background work; cancels it there when nobody waits for it any more."""
        url = f"{self._base}{RESULT_PATH}/{self._job_id(reply)}"
        try:
            while reply.status == 202:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                call = HttpCall(
                    method="GET",
                    url=url,
                    headers={**self._headers, "prefer": f"wait={min(HELD_S, int(left_s))}"},
                    timeout_s=max(left_s, 0.05),
                )
                asked = time.monotonic()
                reply = await self._transport.send(call)
                if reply.status == 202:
                    await anyio.sleep(_pause_s(reply, took_s=time.monotonic() - asked))
            else:
                return reply
        except BaseException:
            await self._cancelled(url)
            raise
        await self._cancelled(url)
        raise APITimeoutError(
            f"{self._name} was not done within {timeout_s:g} s; it was told to stop."
        )

    def _job_id(self, reply: HttpReply) -> str:
        state = self._document(reply)
        name = state.get("job_id") if isinstance(state, Mapping) else None
        if not isinstance(name, str) or not JOB_ID.fullmatch(name):
            raise MalformedReplyError(
                f"{self._name} answered 202, but without a job_id to fetch the result with."
            )
        return name

    async def _cancelled(self, url: str) -> None:
        call = HttpCall(method="DELETE", url=url, headers=self._headers, timeout_s=FAREWELL_S)
        with anyio.CancelScope(shield=True):
            try:
                await self._transport.send(call)
            except ProviderError:
                # The first error is the one to tell; the work ends at its own time limit.
                return

    def _read(self, reply: HttpReply) -> JobResult:
        if reply.status >= 300:
            result = self._result_beside_status(reply)
            if result is not None:
                return result
            raise self._failure(reply)
        return read_result(self._document(reply))

    def _result_beside_status(self, reply: HttpReply) -> JobResult | None:
        """A whole result that came with a status such as 503, because no verdict was possible."""
        try:
            document = json.loads(reply.body)
        except (ValueError, RecursionError):
            return None
        if isinstance(document, Mapping) and "results" in document and "error" not in document:
            return read_result(document)
        return None

    def _document(self, reply: HttpReply) -> Json:
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            text = masked(reply.body.decode("utf-8", "replace"), self._secrets)
            came = "an HTML page" if looks_like_html(text) else repr(excerpt(text, 200))
            raise MalformedReplyError(
                f"{self._name} should have answered with JSON, but sent {came}.",
                status_code=reply.status,
            ) from error

    def _failure(self, reply: HttpReply) -> EngineError | ProviderError:
        complaint = read_complaint(reply.body)
        for word in complaint.words:
            if word in ENGINE_KINDS:
                said = masked(complaint.text, self._secrets)
                return ENGINE_KINDS[word](f"{self._name}: {excerpt(said, 2000)}")
        return failure(
            status=reply.status,
            headers=reply.headers,
            body=reply.body,
            who=self._name,
            secrets=self._secrets,
            now=time.time(),
        )


def _pause_s(reply: HttpReply, *, took_s: float) -> float:
    """The pause before the next question; none when the bridge has held this one open."""
    wanted_s = parse_retry_after(reply.headers, now=time.time()) or POLL_S
    return max(0.0, min(wanted_s, LONGEST_PAUSE_S) - took_s)


def _base(api_base: str) -> str:
    base = api_base.strip().rstrip("/").removesuffix(PATH).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise UsageError(
            "The base URL of a bridge is like 'http://127.0.0.1:8888', but "
            f"{excerpt(api_base, 100)!r} came."
        )
    return base
