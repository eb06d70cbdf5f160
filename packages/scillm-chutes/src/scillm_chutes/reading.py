"""Replies of Chutes to records; rows that cannot be read are counted, never guessed at."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scillm.errors import MalformedReplyError

from scillm_chutes.records import Busyness, Catalog, Feed, Model

if TYPE_CHECKING:
    from scillm.records import Json

PRIVATE = "[private chute]"
PER_MILLION = 1_000_000.0
STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(\.\d+)?")
EMBEDDER = "tei"
"""The template of chutes that make vectors."""
EMBEDDINGS = frozenset({"embedding"})
FEATURES = {"structured_output": "structured_outputs"}


def read_catalog(document: Json, *, now: float) -> Catalog:
    """The catalog in the reply of `/v1/models`, or of `/chutes/` asked for what makes vectors.

    `MalformedReplyError` for another shape.
    """
    held = document if isinstance(document, Mapping) else {}
    read, name = (_model, "id") if "data" in held else (_embedder, "name")
    rows = held.get("data", held.get("items"))
    if not isinstance(rows, list):
        raise MalformedReplyError(
            "A catalog should hold a list `data` (/v1/models) or `items` (/chutes/), but has "
            "another shape."
        )
    models = [read(row) for row in rows if isinstance(row, Mapping) and _text(row.get(name))]
    return Catalog(models=tuple({model.id: model for model in models}.values()), at=now)


def read_feed(document: Json, *, now: float) -> Feed:
    """The public rows of `/chutes/utilization`; `MalformedReplyError` for another shape.

    An empty list is an error too: it says nothing, and must not replace what was known.
    """
    if not isinstance(document, list) or not document:
        raise MalformedReplyError(
            "/chutes/utilization should be a list of chutes, but is "
            f"{'empty' if document == [] else 'a ' + type(document).__name__}."
        )
    rows = [row for row in document if isinstance(row, Mapping) and _text(row.get("name"))]
    stamps = [stamp for row in rows if (stamp := unix_time(row.get("timestamp"))) is not None]
    public = [_busyness(row) for row in rows if row["name"] != PRIVATE]
    return Feed(rows={row.name: row for row in public}, at=max(stamps, default=now))


def unix_time(text: Json) -> float | None:
    """Unix time of an ISO moment without zone, which is UTC; None for anything else."""
    match = STAMP.match(text) if isinstance(text, str) else None
    if match is None:
        return None
    parts = [int(part) for part in match.groups()[:6]]
    if not (1 <= parts[1] <= 12 and 1 <= parts[2] <= 31):
        return None
    return calendar.timegm((*parts, 0, 0, 0)) + float(match[7] or 0.0)


def _model(row: Mapping[str, Any]) -> Model:
    pricing = row.get("pricing")
    price = pricing if isinstance(pricing, Mapping) else {}
    confidential = row.get("confidential_compute")
    return Model(
        id=row["id"],
        chute_id=_text(row.get("chute_id")),
        features=_words(row.get("supported_features")),
        inputs=_words(row.get("input_modalities")),
        outputs=_words(row.get("output_modalities")),
        context_tokens=_whole(row.get("context_length") or row.get("max_model_len")),
        max_output_tokens=_whole(row.get("max_output_length")),
        quantization=_text(row.get("quantization")),
        prompt_usd=_per_token(price.get("prompt")),
        completion_usd=_per_token(price.get("completion")),
        confidential=confidential if isinstance(confidential, bool) else None,
    )


def _embedder(row: Mapping[str, Any]) -> Model:
    """A row of `/chutes/`; only the template tells what a chute makes."""
    price = row.get("current_estimated_price")
    per_million = price.get("per_million_tokens") if isinstance(price, Mapping) else None
    dollars = _in_dollars(per_million, "input")
    return Model(
        id=row["name"],
        chute_id=_text(row.get("chute_id")),
        outputs=EMBEDDINGS if row.get("standard_template") == EMBEDDER else None,
        prompt_usd=dollars,
        # No tokens come out, so a price for them is never asked.
        completion_usd=None if dollars is None else 0.0,
    )


def _in_dollars(prices: Json, side: str) -> float | None:
    found = prices.get(side) if isinstance(prices, Mapping) else None
    return _per_token(found.get("usd")) if isinstance(found, Mapping) else None


def _busyness(row: Mapping[str, Any]) -> Busyness:
    return Busyness(
        name=row["name"],
        chute_id=_text(row.get("chute_id")),
        used_now=_share(row.get("utilization_current")),
        used_5m=_share(row.get("utilization_5m")),
        used_15m=_share(row.get("utilization_15m")),
        used_1h=_share(row.get("utilization_1h")),
        refused_5m=_share(row.get("rate_limit_ratio_5m")) or 0.0,
        refused_15m=_share(row.get("rate_limit_ratio_15m")) or 0.0,
        refused_1h=_share(row.get("rate_limit_ratio_1h")) or 0.0,
        active=_whole(row.get("active_instance_count")) or 0,
        scalable=row.get("scalable") is True,
        scale_allowance=_number(row.get("scale_allowance")) or 0.0,
    )


def _text(value: Json) -> str:
    return value if isinstance(value, str) and value.strip() else ""


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e15 else None


def _whole(value: Json) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _share(value: Json) -> float | None:
    number = _number(value)
    return None if number is None else min(number, 1.0)


def _per_token(value: Json) -> float | None:
    number = _number(value)
    return None if number is None else number / PER_MILLION


def _words(value: Json) -> frozenset[str] | None:
    if not isinstance(value, list):
        return None
    words = [word.lower() for word in value if isinstance(word, str)]
    return frozenset(FEATURES.get(word, word) for word in words)
