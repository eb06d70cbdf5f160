"""What the fake remembers of a request, and the kinds of reply there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm_chutes.fake.answers import page

if TYPE_CHECKING:
    from scillm_chutes.fake.accounts import FakeAccount
    from scillm_chutes.fake.models import FakeModel


@frozen(kw_only=True)
class Seen:
    """One request as it came. `wrong` names what a good client would not have done.

    The key is replaced by a label, in headers and body.
    """

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float
    account: str = ""
    wrong: tuple[str, ...] = ()


@frozen(kw_only=True)
class Refusal:
    """A reply that is no answer: a status with a JSON detail, or a page of the edge."""

    status: int
    detail: Any = None
    title: str = ""
    headers: Mapping[str, str] = field(factory=dict)

    @property
    def content_type(self) -> str:
        """What the body is."""
        return "text/html" if self.title else "application/json"

    @property
    def body(self) -> bytes:
        """The bytes sent."""
        return page(self.title) if self.title else json.dumps({"detail": self.detail}).encode()


@frozen(kw_only=True)
class Document:
    """A JSON reply, or with `raw` any bytes."""

    value: Any = None
    raw: bytes | None = None
    content_type: str = "application/json"


@frozen(kw_only=True)
class WarmUp:
    """A warm-up stream of one model."""

    model: FakeModel


@frozen(kw_only=True)
class Answer:
    """A model takes the call; `served` is its id."""

    model: FakeModel
    body: Mapping[str, Any]
    account: FakeAccount
    served: str
    fault: str = ""


Reply = Refusal | Document | WarmUp | Answer


def broken(mode: str) -> Reply:
    """A reply that is no list: error, html, empty or truncated."""
    if mode == "error":
        return Refusal(status=500, detail="Internal Server Error")
    raw = {"html": page("502 Bad Gateway"), "empty": b"[]", "truncated": b'[{"name": "acme/'}[mode]
    kind = "text/html" if mode == "html" else "application/json"
    return Document(raw=raw, content_type=kind)
