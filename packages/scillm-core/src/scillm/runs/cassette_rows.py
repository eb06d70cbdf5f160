"""The rows of a cassette: what is kept of an HTTP exchange, and by what a request is known again.

A row is one JSON line. Secrets are never in it: of the request only method, path and body are kept,
of the reply only the headers in `KEPT_HEADERS`; credentials of the headers and the URL are masked.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import CassetteError
from scillm.runs.canonical import canonical_json, digest

if TYPE_CHECKING:
    from scillm.records import HttpCall, Json

SCHEMA = "scillm-cassette/1"
KEPT_HEADERS = re.compile(r"content-type|retry-after(-ms)?|x-request-id|(x-)?ratelimit(-.*)?")
SECRET_NAMES = re.compile(r"auth|key|token|secret|cookie|passw|credential|signature")
USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#@]*)@", re.IGNORECASE)
QUERY = re.compile(r"[?&]([^=&#]*)=([^&#]*)")
MIN_SECRET_CHARS = 8
"""Shorter values are placeholders (`test`, `EMPTY`); masking them would change ordinary words."""
MASK = b"***"
ENDS = ("whole", "left", "silent", "failed")
"""How a body ended: read to its end; left by the caller; left while waiting; broken."""
COMPARED_CHARS = 4000


@frozen(kw_only=True)
class Row:
    """One exchange. `nth` counts the same request, from 0 in order of asking."""

    request: Mapping[str, Json]
    nth: int
    status: int | None = None
    headers: Mapping[str, str] = field(factory=dict)
    pieces: Sequence[bytes] = ()
    end: str = "whole"
    error: tuple[str, str] | None = None
    """Class and message of the error that ended the exchange."""

    @property
    def key(self) -> str:
        """By what the request is known again."""
        return key_of(self.request)


# -- requests --------------------------------------------------------------------------------------


def request_of(call: HttpCall) -> dict[str, Json]:
    """Method, path and body of `call`, without secrets; JSON bodies as JSON."""
    path = re.sub(r"^[a-z][a-z0-9+.-]*://[^/?#]*", "", call.url, flags=re.IGNORECASE)
    body = masked(call.body, secrets_of(call.headers, call.url))
    return {
        "method": call.method.upper(),
        "path": re.split(r"[?#]", path, maxsplit=1)[0] or "/",
        "body": _document(body),
    }


def key_of(request: Mapping[str, Json]) -> str:
    """A hash that is the same for the same request, however its JSON is written."""
    return digest(request)


def secrets_of(headers: Mapping[str, str], url: str = "") -> tuple[bytes, ...]:
    """What must not be stored, longest first: credentials in headers, and those in a URL.

    The URL itself is never stored, but an answer or an error may repeat what is in it.
    """
    user_info = USER_INFO.match(url)
    named = [*headers.items(), *QUERY.findall(url)]
    values = [value for name, value in named if SECRET_NAMES.search(name.lower())]
    values += user_info.group(1).split(":", 1) if user_info else []
    values += [_unquoted(value) for value in values]
    bare = [part for value in values for part in value.split()]
    plain = {text for text in (*values, *bare) if len(text) >= MIN_SECRET_CHARS}
    written = {form for text in plain for form in (text, json.dumps(text)[1:-1])}
    slashed = {text.replace("/", "\\/") for text in written}
    return tuple(sorted((text.encode() for text in written | slashed), key=len, reverse=True))


def _unquoted(text: str) -> str:
    """`text` with its percent-escapes read (RFC 3986, section 2.1)."""
    escape = re.compile(rb"%([0-9a-fA-F]{2})")
    return escape.sub(lambda match: bytes([int(match[1], 16)]), text.encode()).decode(
        "utf-8", "replace"
    )


def masked(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """`data` without any of `secrets`."""
    for secret in secrets:
        data = data.replace(secret, MASK)
    return data


def masked_pieces(pieces: Sequence[bytes], secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """`pieces` without `secrets`; those that a secret is spread over become one."""
    whole = b"".join(pieces)
    for secret in secrets:
        if secret not in whole:
            continue
        cuts = [0, *accumulate(len(piece) for piece in pieces)]
        spans = [match.span() for match in re.finditer(re.escape(secret), whole)]
        kept = [cut for cut in cuts if not any(start < cut < end for start, end in spans)]
        pieces = [whole[start:end].replace(secret, MASK) for start, end in pairwise(kept)]
        whole = b"".join(pieces)
    return tuple(pieces)


def kept_headers(headers: Mapping[str, str], secrets: Iterable[bytes]) -> dict[str, str]:
    """The headers of a reply that a provider reads; all others are dropped."""
    return {
        name: masked(value.encode(), secrets).decode()
        for name, value in headers.items()
        if KEPT_HEADERS.fullmatch(name)
    }


def _document(body: bytes) -> Json:
    try:
        document = json.loads(body)
        canonical_json(document)
    except (ValueError, RecursionError):
        return _text(body)
    return {"json": document}


# -- lines -----------------------------------------------------------------------------------------


def head_line() -> str:
    """The first line of a cassette."""
    return json.dumps({"schema": SCHEMA}) + "\n"


def line_of(row: Row) -> str:
    """`row` as one line."""
    document: dict[str, Json] = {
        "request": row.request,
        "nth": row.nth,
        "status": row.status,
        "headers": row.headers,
        "pieces": [_text(piece) for piece in row.pieces],
        "end": row.end,
        "error": row.error,
    }
    return json.dumps(document, ensure_ascii=True, allow_nan=False) + "\n"


def rows_of(lines: Iterable[str], *, where: str) -> list[Row]:
    """The rows of a cassette; `CassetteError` names the line that is none."""
    rows: list[Row] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
            if number == 1:
                _check_schema(document)
            else:
                rows.append(_row(document))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CassetteError(
                f"{where}, line {number}, is no line of a cassette ({error!r}). A recording that "
                "was killed may leave a cut last line: delete that line, or record anew."
            ) from error
    if number == 0:
        raise CassetteError(f"{where} is empty; a cassette begins with its schema. Record anew.")
    return rows


def _check_schema(document: Json) -> None:
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise ValueError(f"the first line must be {head_line().strip()}")


def _row(document: Mapping[str, Json]) -> Row:
    end, error, nth = document["end"], document["error"], document["nth"]
    if end not in ENDS or not isinstance(nth, int):
        raise ValueError("end or nth is wrong")
    return Row(
        request=document["request"],
        nth=nth,
        status=document["status"],
        headers=document["headers"],
        pieces=tuple(_bytes(piece) for piece in document["pieces"]),
        end=end,
        error=None if error is None else (str(error[0]), str(error[1])),
    )


def _text(data: bytes) -> Json:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _bytes(value: Json) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    try:
        return base64.b64decode(value["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


# -- what is nearest -------------------------------------------------------------------------------


def unrecorded(request: Mapping[str, Json], rows: Sequence[Row], *, where: str) -> CassetteError:
    """The error for a request that is not in the cassette, with the recorded one most like it."""
    asked = f"{request['method']} {request['path']}"
    again = sum(row.request == request for row in rows)
    if again:
        return CassetteError(
            f"{where} holds {again} recorded answers to {asked} with this body, and all of them "
            "were given; the request came once more."
        )
    if not rows:
        return CassetteError(f"{where} holds no exchange, but {asked} was asked.")
    text = canonical_json(request)[:COMPARED_CHARS]
    nearest = max(rows, key=lambda row: _likeness(text, row.request))
    found = differences(request, nearest.request)
    return CassetteError(
        f"{where} does not hold {asked}. The nearest of {len(rows)} recorded requests, number "
        f"{rows.index(nearest) + 1}, differs in: {'; '.join(found[:5])}."
    )


def _likeness(text: str, request: Mapping[str, Json]) -> float:
    other = canonical_json(request)[:COMPARED_CHARS]
    return SequenceMatcher(None, text, other, autojunk=False).quick_ratio()


def differences(came: Json, recorded: Json, where: str = "") -> list[str]:
    """Where two JSON values differ, by JSON pointer (RFC 6901)."""
    if isinstance(came, Mapping) and isinstance(recorded, Mapping):
        names = [*came, *(name for name in recorded if name not in came)]
        pairs = [(name, came.get(name, ABSENT), recorded.get(name, ABSENT)) for name in names]
    elif isinstance(came, list) and isinstance(recorded, list) and len(came) == len(recorded):
        both = zip(came, recorded, strict=True)
        pairs = [(str(place), one, other) for place, (one, other) in enumerate(both)]
    else:
        same = type(came) is type(recorded) and came == recorded
        return [] if same else [f"{where or '/'} is {_short(came)}, not {_short(recorded)}"]
    return [
        line for name, one, other in pairs for line in differences(one, other, f"{where}/{name}")
    ]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-30:]}"
