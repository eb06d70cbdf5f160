"""One text for one JSON value, to be hashed: RFC 8785, but numbers as Python prints them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.records import Json


def canonical_json(value: Json) -> str:
    """Sorted keys, no spaces, no NaN or infinity (`ValueError`), non-ASCII kept."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Json) -> str:
    """`sha256:` and the hex hash of the canonical text of `value`."""
    text = canonical_json(value).encode("utf-8", "surrogatepass")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
