"""Many calls at once: requests in, results with their index out, nothing dropped on the way."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import attrs
from attrs import field, frozen

from scillm import portal
from scillm.errors import APITimeoutError, ScillmError, UsageError
from scillm.fanout import each

if TYPE_CHECKING:
    from concurrent.futures import Future

    from scillm.models import Completion
    from scillm.records import Json, Message

Ask = Callable[[Mapping[str, Any]], Awaitable["Completion"]]

WAIT_S = 1.0
"""After which a thread that waits for a result looks whether anybody still waits for it."""


@frozen(kw_only=True)
class RouterParallelRequest:
    """One request of a batch. `kwargs` holds further arguments of the call."""

    model: str
    messages: Sequence[Message]
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stream: bool = False
    kwargs: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class ParallelResult:
    """What became of one request: by attribute, or by key like an OpenAI answer.

    `meta` (also `["scillm_router"]`) has error_type (ok, empty_content, invalid_json, timeout,
    provider_error), json_valid (None when no JSON was asked for), timing_ms (without queueing),
    provider, deterministic, exception.
    """

    index: int
    request: Mapping[str, Any] = field(repr=False)
    response: Completion | None = None
    error: Exception | None = None
    timing_ms: float = 0.0
    deterministic: bool = False

    @property
    def exception(self) -> Exception | None:
        """The same as `error`."""
        return self.error

    @property
    def content(self) -> str | None:
        """Text of the first choice; None when the request failed."""
        return None if self.response is None else self.response.text

    @property
    def meta(self) -> dict[str, Json]:
        """What is known about this request's way."""
        return {**self._verdict(), **self._origin(), "timing_ms": self.timing_ms}

    def __getitem__(self, key: str) -> Any:
        if key == "scillm_router":
            return self.meta
        if self.response is not None and key in self.response:
            return self.response[key]
        if key == "choices":
            return [{"message": {"content": ""}}]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """The answer's keys, and `scillm_router`."""
        own = ["choices"] if self.response is None else self.response.keys()
        return [*own, "scillm_router"]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return self[key] if key in self else default  # noqa: SIM401 (this is that method)

    def _verdict(self) -> dict[str, Json]:
        valid = self._json_valid()
        kind = "ok"
        if self.error is not None:
            kind = "timeout" if isinstance(self.error, APITimeoutError) else "provider_error"
        elif is_empty(self.response):
            kind = "empty_content"
        elif valid is False:
            kind = "invalid_json"
        shown = None if self.error is None else str(self.error)[:200]
        return {"error_type": kind, "json_valid": valid, "exception": shown}

    def _origin(self) -> dict[str, Json]:
        provider = getattr(self.error, "provider", None)
        meta: Mapping[str, Json] = {}
        router: Mapping[str, Json] = {}
        if self.response is not None:
            meta = self.response.scillm_meta
            provider = meta.get("provider")
            router = self.response.additional_kwargs.get("router", {})
        return {
            # Only the checked-JSON loop says so; a plain response_format is passed on unchecked.
            "schema_mode": "schema_validation" in meta,
            "fallback_used": bool(meta.get("fallback_used") or router.get("fallbacks")),
            "provider": provider or None,
            "deterministic": self.deterministic,
            **router,
        }

    def _json_valid(self) -> bool | None:
        if self.response is not None and "json_valid" in self.response.scillm_meta:
            return bool(self.response.scillm_meta["json_valid"])
        wanted = self.request.get("response_format")
        kind = wanted.get("type") if isinstance(wanted, Mapping) else None
        if self.response is None or kind not in ("json_object", "json_schema"):
            return None
        try:
            json.loads(self.response.text)
        except (ValueError, RecursionError):
            return False
        return True


def is_empty(response: Completion | None) -> bool:
    """Whether an answer says nothing: no text, no tool call, no image."""
    if response is None or not response.choices:
        return True
    message = response.choices[0].message
    if message.tool_calls or message.function_call or response.text.strip():
        return False
    parts = message.content if isinstance(message.content, list) else []
    return not any(isinstance(part, Mapping) and part.get("type") != "text" for part in parts)


def read_request(index: int, request: Any) -> dict[str, Any]:
    """A request as keyword arguments; `UsageError` names the index and what is missing.

    Takes a mapping, an attrs or dataclass record, or any object with attributes; what stands in
    `kwargs` and what stands beside it both count, the latter wins. None means not given.
    """
    fields = dict(_fields(request))
    inner = fields.pop("kwargs", None) or {}
    if not isinstance(inner, Mapping):
        raise UsageError(f"requests[{index}].kwargs must be an object, but is {inner!r}.")
    given = {k: v for k, v in {**inner, **fields}.items() if v is not None}
    missing = [name for name in ("model", "messages") if not given.get(name)]
    if missing:
        raise UsageError(f"requests[{index}] has no {' and no '.join(missing)}.")
    return given


def _fields(request: Any) -> Mapping[str, Any]:
    if isinstance(request, Mapping):
        return request
    if attrs.has(type(request)):
        return {f.name: getattr(request, f.name) for f in attrs.fields(type(request))}
    if dataclasses.is_dataclass(request) and not isinstance(request, type):
        return {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    return dict(getattr(request, "__dict__", {}))


async def one(
    index: int, request: Mapping[str, Any], ask: Ask, *, deterministic: bool
) -> ParallelResult:
    """The result of one request; SciLLM's own errors are kept in it, all others are raised."""
    started = time.monotonic()
    response: Completion | None = None
    error: ScillmError | None = None
    try:
        response = await ask(request)
    except ScillmError as caught:
        error = caught
    return ParallelResult(
        index=index,
        request=request,
        response=response,
        error=error,
        timing_ms=(time.monotonic() - started) * 1000.0,
        deterministic=deterministic,
    )


async def gather(
    requests: Sequence[Any],
    ask: Ask,
    *,
    width: int,
    deterministic: bool,
    preserve_order: bool = True,
    return_exceptions: bool = True,
) -> list[ParallelResult]:
    """All results, in the order of the requests, or in the order in which they finished.

    Without `return_exceptions` the first error is raised and the rest is cancelled.
    """
    read = [read_request(index, request) for index, request in enumerate(requests)]
    finished: list[ParallelResult] = []

    async def run(numbered: tuple[int, Mapping[str, Any]]) -> ParallelResult:
        result = await one(*numbered, ask, deterministic=deterministic)
        if result.error is not None and not return_exceptions:
            raise result.error
        finished.append(result)
        return result

    ordered = await each(run, enumerate(read), limit=width)
    return ordered if preserve_order else finished


class _Arrivals:
    """Results on their way between two event loops. Remembers those that were not taken yet."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._results: deque[ParallelResult] = deque()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, result: ParallelResult) -> None:
        with self._news:
            self._results.append(result)
            self._news.notify_all()

    def end(self, error: BaseException | None) -> None:
        with self._news:
            self._ended, self._error = True, error
            self._news.notify_all()

    def wait(self) -> None:
        """Return when there is something to take, or after `WAIT_S`. Blocks; takes nothing."""
        with self._news:
            self._news.wait_for(lambda: self._results or self._ended, timeout=WAIT_S)

    def take(self) -> ParallelResult | None:
        """The oldest result, None while there is none; `StopAsyncIteration` or what ended them."""
        with self._news:
            if self._results:
                return self._results.popleft()
            if not self._ended:
                return None
            error, self._error = self._error, None
        raise StopAsyncIteration if error is None else error


class ResultStream:
    """Results in the order in which they finish. Remembers the background work.

    The work runs on SciLLM's background loop, so that leaving the iteration early, in whatever
    task, cancels it: forget the object, or call `aclose`. A wait for the next result that is
    cancelled (by a timeout, say) loses none.
    """

    def __init__(
        self, requests: Sequence[Any], ask: Ask, *, width: int, deterministic: bool
    ) -> None:
        read = [read_request(index, request) for index, request in enumerate(requests)]
        # Not self: the work must not keep alive the object whose end is to cancel it.
        arrivals = self._arrivals = _Arrivals()

        async def work() -> None:
            async def run(numbered: tuple[int, Mapping[str, Any]]) -> None:
                arrivals.put(await one(*numbered, ask, deterministic=deterministic))

            await each(run, enumerate(read), limit=width)

        def done(task: Future[None]) -> None:
            arrivals.end(None if task.cancelled() else task.exception())

        self._left = False
        self._task: Future[None] = portal.start(work)
        self._task.add_done_callback(done)

    def __aiter__(self) -> ResultStream:
        return self

    async def __anext__(self) -> ParallelResult:
        while not self._left:
            result = self._arrivals.take()
            if result is not None:
                return result
            # A thread that nobody waits for any more must not take the next result with it.
            await anyio.to_thread.run_sync(self._arrivals.wait, abandon_on_cancel=True)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel what has not finished."""
        self._left = True
        self._task.cancel()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None:
            task.cancel()
