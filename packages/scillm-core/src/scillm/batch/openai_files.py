"""The files of the OpenAI Batch API: requests in, answers and errors out. Pure.

Source: OpenAI API reference, "The request input object" and "The request output object" of Batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.runs.canonical import digest

if TYPE_CHECKING:
    from scillm.batch.entries import Failure
    from scillm.records import Json

CHAT_URL = "/v1/chat/completions"
FIELDS = ("custom_id", "method", "url", "body")
BOM = b"\xef\xbb\xbf"
MOST_PROBLEMS = 20
"""How many problems one error message lists."""


@frozen(kw_only=True)
class BatchRequest:
    """One line of the input. `line` counts from 1."""

    line: int
    custom_id: str
    body: Mapping[str, Json]

    def digest(self) -> str:
        """Changes when the request does."""
        return digest(dict(self.body))


@frozen(kw_only=True)
class BatchInput:
    """What an input asks for: custom_id → digest of its request, and all that is wrong with it."""

    digests: Mapping[str, str]
    problems: list[str] = field(factory=list)

    def require_sound(self, where: str) -> None:
        """Raise `UsageError` listing the problems, with their lines."""
        if not self.problems and self.digests:
            return
        shown = self.problems[:MOST_PROBLEMS] or ["it has no requests"]
        rest = len(self.problems) - len(shown)
        more = [f"and {rest} more"] if rest > 0 else []
        raise UsageError(
            "\n  ".join([f"{where} cannot be run as a batch; nothing was sent:", *shown, *more])
        )


def requests_in(lines: Iterable[bytes], *, needs_model: bool) -> Iterator[BatchRequest]:
    """The requests of an input, blank lines left out; `UsageError` at the first that is wrong."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield read_request(line, number, needs_model=needs_model)


def check_input(lines: Iterable[bytes], *, needs_model: bool) -> BatchInput:
    """Read an input to its end and say everything that is wrong with it."""
    digests: dict[str, str] = {}
    seen_on: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            request = read_request(line, number, needs_model=needs_model)
        except UsageError as error:
            problems.append(error.message)
            continue
        before = seen_on.setdefault(request.custom_id, number)
        if before != number:
            problems.append(
                f"line {number}: custom_id {request.custom_id!r} is that of line {before} too"
            )
        digests[request.custom_id] = request.digest()
    return BatchInput(digests=digests, problems=problems)


def read_request(line: bytes, number: int, *, needs_model: bool) -> BatchRequest:
    """One line of an input; `UsageError` naming its number."""
    try:
        text = line.removeprefix(BOM) if number == 1 else line
        row = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _wrong(number, f"is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise _wrong(number, f"must be an object, but is {type(row).__name__}")
    unknown = [name for name in row if name not in FIELDS]
    if unknown:
        raise _wrong(number, f"has {unknown[0]!r}; known are {', '.join(FIELDS)}")
    custom_id = row.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise _wrong(number, f"custom_id must be a text, but is {custom_id!r}")
    # OpenAI's service wants these two in every line; here they can only be what they are.
    if row.get("method", "POST") != "POST":
        raise _wrong(number, f'method must be "POST", but is {row["method"]!r}')
    if row.get("url", CHAT_URL) != CHAT_URL:
        raise _wrong(number, f"url must be {CHAT_URL!r}, but is {row['url']!r}")
    return BatchRequest(
        line=number, custom_id=custom_id, body=_body(row.get("body"), number, needs_model)
    )


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")


def _body(body: Json, number: int, needs_model: bool) -> Mapping[str, Json]:
    if not isinstance(body, dict):
        raise _wrong(number, f"body must be an object, but is {type(body).__name__}")
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise _wrong(number, "body.messages must be a list of objects")
    if not messages:
        raise _wrong(number, "body.messages is empty")
    if body.get("stream"):
        raise _wrong(number, "body.stream is on, but a batch does not stream")
    model = body.get("model")
    if needs_model and (not isinstance(model, str) or not model):
        raise _wrong(number, f"body.model must be a text, but is {model!r}; or name one with -m")
    return body


def _wrong(number: int, what: str) -> UsageError:
    return UsageError(f"line {number}: {what}")


def answer_line(custom_id: str, body: Json, *, id: str) -> dict[str, Json]:
    """The output object of an answered request."""
    return _output(id, custom_id, _response(200, body, None), None)


def failure_line(failure: Failure, *, id: str) -> dict[str, Json]:
    """The output object of a request without an answer.

    A refusal over HTTP is a `response` with its status, anything else an `error`.
    """
    if failure.status_code is None:
        error = {"code": failure.type, "message": failure.message}
        return _output(id, failure.id, None, error)
    response = _response(failure.status_code, _error_body(failure), failure.request_id)
    return _output(id, failure.id, response, None)


def _response(status: int, body: Json, request_id: str | None) -> Json:
    return {"status_code": status, "request_id": request_id, "body": body}


def _output(id: str, custom_id: str | None, response: Json, error: Json) -> dict[str, Json]:
    return {"id": f"batch_req_{id}", "custom_id": custom_id, "response": response, "error": error}


def _error_body(failure: Failure) -> Json:
    """What the upstream said, where it said it in the API's form; else our words in that form."""
    try:
        body = json.loads(failure.body)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return body
    error = {"message": failure.message, "type": failure.type, "param": None, "code": None}
    return {"error": error}
