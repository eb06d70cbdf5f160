"""What the head of a reply says besides the answer: the request's id, and the rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from scillm.models import Answered
    from scillm.records import Json

Answer = TypeVar("Answer", bound="Answered")

REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id the upstream gave this request, for its support desk; names are lower case."""
    for name in REQUEST_IDS:
        if name in headers:
            return headers[name]
    return None


def side_of(headers: Mapping[str, str]) -> dict[str, Json]:
    """`request_id`, and as `additional_headers` every header about rate limits; often empty."""
    side: dict[str, Json] = {}
    request_id = request_id_of(headers)
    if request_id is not None:
        side["request_id"] = request_id
    limits = {name: value for name, value in headers.items() if "ratelimit" in name}
    if limits:
        side["additional_headers"] = limits
    return side


def with_side(answer: Answer, side: Mapping[str, Json]) -> Answer:
    """`answer` with `side` in its additional_kwargs, under `scillm`."""
    if not side:
        return answer
    kept = answer.additional_kwargs
    return answer.with_additional({**kept, "scillm": {**kept.get("scillm", {}), **side}})
