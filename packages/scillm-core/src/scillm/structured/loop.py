"""Asking until an answer has the wanted structure, or saying why it has not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from scillm.errors import (
    BadRequestError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    JsonTextError,
    ProviderError,
    SchemaError,
    ScillmError,
    UsageError,
)
from scillm.models import Completion
from scillm.records import evolve
from scillm.structured.jsontext import json_part
from scillm.structured.reading import Reading, read_json, refusal_of, tool_calls_only, with_text
from scillm.structured.schema import check, compiled
from scillm.structured.shaping import (
    VERDICT,
    WRAPPED,
    Wanted,
    fallback_request,
    first_request,
    repair_request,
    report,
    wanted_format,
    wanted_type,
)
from scillm.structured.structuring import structure
from scillm.structured.types import json_schema, name_of

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Json

Ask = Callable[["ChatRequest"], Awaitable[Completion]]


async def complete_json(
    ask: Ask,
    request: ChatRequest,
    *,
    response_format: Any,
    repair_rounds: int = 0,
    sanitize: bool | None = None,
) -> Completion:
    """An answer of `ask` to `request` whose text is JSON of the wanted structure.

    `response_format` is OpenAI's (json_object, json_schema) or a Python type. It is asked for in
    the server's own way first; where the server refuses that, or the answer fails, once more as
    json_object with the schema in words; then `repair_rounds` times with what is wrong.
    `sanitize` as `reading.read_json`. Nothing is sent when the schema is wrong (`UsageError`).

    `additional_kwargs["scillm"]` gets `parsed` (the value, or the instance of the type), the keys
    of `shaping.report`, and every round with its usage; `["router"]` gets the verdict. Raises
    `SchemaError` when no answer fits, or the first error that another round cannot help; either
    has all `rounds`.
    """
    wanted = _wanted(response_format)
    _check_call(request, repair_rounds)
    talk = _Talk(ask, wanted, sanitize)
    asked = first_request(request, wanted)
    done = await talk.round("first", asked)
    if done is None and wanted.has_fallback:
        asked = fallback_request(request, wanted)
        done = await talk.round("fallback", asked)
    for _ in range(repair_rounds):
        if done is not None:
            break
        done = await talk.round("repair", repair_request(asked, talk.text, talk.problems))
    if done is None:
        raise talk.failure()
    return done


def _wanted(response_format: Any) -> Wanted:
    if isinstance(response_format, Mapping):
        wanted = wanted_format(response_format)
    else:
        schema = json_schema(response_format)
        wanted = wanted_type(response_format, name_of(response_format), schema)
    if wanted.schema is not None:
        compiled(wanted.schema)
    return wanted


def _check_call(request: ChatRequest, repair_rounds: int) -> None:
    if isinstance(repair_rounds, bool) or not isinstance(repair_rounds, int) or repair_rounds < 0:
        raise UsageError(f"repair_rounds must be 0 or more, but is {repair_rounds!r}.")
    if request.stream or request.params.get("stream"):
        raise UsageError("Structured output is checked whole; leave out stream=True.")
    if request.params.get("n") not in (None, 1):
        raise UsageError("Structured output checks one answer; leave out n, or ask n times.")


class _Talk:
    # Remembers every round, and what was wrong with the last answer.
    def __init__(self, ask: Ask, wanted: Wanted, sanitize: bool | None) -> None:
        self._ask = ask
        self._wanted = wanted
        self._sanitize = sanitize
        self.rounds: list[dict[str, Json]] = []
        self.text = ""
        self.problems: tuple[str, ...] = ()
        self._last: SchemaError | None = None
        self._refused: ScillmError | None = None

    async def round(self, kind: str, request: ChatRequest) -> Completion | None:
        """Ask once. The stamped answer; None when another round may help."""
        entry = _entry(len(self.rounds) + 1, kind, request)
        self.rounds.append(entry)
        try:
            completion = await self._ask(request)
        except ScillmError as error:
            _note_error(entry, error)
            if kind == "first" and self._wanted.has_fallback and _refuses_format(error):
                self._refused = error
                return None
            error.rounds = tuple(self.rounds)
            if kind == "fallback" and self._refused is not None:
                raise error from self._refused
            raise
        _note_answer(entry, completion)
        if tool_calls_only(completion):
            entry["outcome"] = "tool_calls"
            return self._stamped(completion, completion, {})
        if words := refusal_of(completion):
            entry.update(outcome="refusal", message=words)
            self._last = SchemaError(f"The model refuses: {words}", text=words)
            raise self.failure()
        try:
            reading = self._read(completion)
        except (JsonTextError, SchemaError) as error:
            self._failed(entry, completion, error)
            return None
        entry.update(outcome="ok", json_valid=True)
        part = json_part(reading.found, completion.text)
        clean = part == completion.text.strip()
        shown = completion if clean else with_text(completion, part)
        return self._stamped(completion, shown, {"parsed": reading.value})

    def failure(self) -> SchemaError:
        """What is raised when no round helped."""
        error = self._last or SchemaError("No answer came.")
        error.rounds = tuple(self.rounds)
        count = len(self.rounds)
        asked = "1 round" if count == 1 else f"{count} rounds"
        error.args = (f"No usable answer after {asked}. The last one: {error.message}",)
        return error

    def _read(self, completion: Completion) -> Reading:
        wanted = self._wanted
        found = read_json(completion.text, root=wanted.root, sanitize=self._sanitize)
        if wanted.schema is not None:
            check(found.value, wanted.schema)
        value = found.value[WRAPPED] if wanted.wrapped else found.value
        if wanted.kind is not None:
            value = structure(value, wanted.kind)
        return Reading(found=found, value=value)

    def _failed(
        self, entry: dict[str, Json], completion: Completion, error: JsonTextError | SchemaError
    ) -> None:
        self.text = completion.text
        if isinstance(error, SchemaError):
            self.problems, path = error.problems or (error.message,), error.path
            entry["json_valid"] = True
        else:
            self.problems, path = (error.message,), ""
        if completion.choices and completion.choices[0].finish_reason == "length":
            self.problems = (*self.problems, "it was cut off at its token limit; be shorter")
        entry.update(
            outcome=error.kind if isinstance(error, JsonTextError) else "schema",
            path=path,
            message=error.message,
        )
        self._last = SchemaError(
            error.message, path=path, text=completion.text, problems=self.problems
        )
        self._last.__cause__ = error

    def _stamped(
        self, answer: Completion, shown: Completion, more: Mapping[str, Json]
    ) -> Completion:
        meta = report(self._wanted, self.rounds, sanitized=shown is not answer)
        side = {**answer.scillm_meta, **meta, **more}
        kept = answer.additional_kwargs
        # The verdict stands where the first SciLLM had it, too.
        router = {**kept.get("router", {}), **{name: meta[name] for name in VERDICT}}
        stamped: Completion = evolve(
            shown, additional_kwargs={**kept, "scillm": side, "router": router}
        )
        return stamped


def _refuses_format(error: ScillmError) -> bool:
    # A context or a policy that refuses the request would refuse it again.
    final = (ContextWindowExceededError, ContentPolicyViolationError)
    return isinstance(error, BadRequestError) and not isinstance(error, final)


def _entry(number: int, kind: str, request: ChatRequest) -> dict[str, Json]:
    return {
        "number": number,
        "kind": kind,
        "response_format": request.params["response_format"]["type"],
        "outcome": "",
        "answered": False,
        "json_valid": False,
        "path": "",
        "message": "",
        "text": "",
        "served_model": None,
        "usage": None,
        "cost_usd": None,
        "attempts": [],
    }


def _note_error(entry: dict[str, Json], error: ScillmError) -> None:
    status = error.status_code if isinstance(error, ProviderError) else None
    entry.update(outcome=type(error).__name__, message=error.message, status_code=status)


def _note_answer(entry: dict[str, Json], completion: Completion) -> None:
    usage = completion.usage
    meta = completion.scillm_meta
    cost = meta.get("response_cost", usage.get("cost") if usage else None)
    entry.update(
        answered=True,
        text=completion.text,
        served_model=completion.model or None,
        usage=usage.to_dict() if usage else None,
        cost_usd=cost if isinstance(cost, (int, float)) else None,
        attempts=list(meta.get("attempts", [])),
    )
