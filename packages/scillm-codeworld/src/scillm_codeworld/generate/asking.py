"""Asking a model for programs, through the core's Router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import field, frozen
from scillm.errors import BadRequestError, UnprocessableEntityError

from scillm_codeworld.generate.contract import MANY_SCHEMA

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json

    from scillm_codeworld.generate.wish import Wish


@frozen(kw_only=True)
class Told:
    """A model's answer. `calls` is how often it was asked for it."""

    text: str = field(repr=False)
    model: str = ""
    """What the server says it is."""
    finish_reason: str | None = None
    tokens: float = 0.0
    usd: float | None = None
    """None where no price is known."""
    calls: int = 1


AskModel: TypeAlias = "Callable[[Sequence[Mapping[str, Json]], Wish, int | None], Awaitable[Told]]"
"""Asks: the messages, what was wished for, the seed to send. Raises `ScillmError`."""


async def ask_model(
    messages: Sequence[Mapping[str, Json]], wish: Wish, seed: int | None = None
) -> Told:
    """One call of `wish.model` with the JSON schema.

    A server that refuses the schema is asked once more without: its form stands in words as well.
    """
    from scillm import acompletion

    async def asked(**more: Any) -> Completion:
        found: Completion = await acompletion(
            model=wish.model,
            api_base=wish.api_base or None,
            messages=[dict(message) for message in messages],
            temperature=wish.temperature,
            max_tokens=wish.max_tokens,
            timeout=wish.timeout_s,
            seed=seed,
            **more,
        )
        return found

    form = {"name": "variants", "strict": True, "schema": dict(MANY_SCHEMA)}
    calls = 1
    try:
        answer = await asked(
            response_format={"type": "json_schema", "json_schema": form}, response_mode="plain"
        )
    except (BadRequestError, UnprocessableEntityError):
        calls = 2
        answer = await asked()
    usage, cost = answer.usage, answer.scillm_meta.get("response_cost")
    return Told(
        text=answer.text,
        model=answer.model,
        finish_reason=answer.choices[0].finish_reason if answer.choices else None,
        tokens=float(usage.total_tokens or 0) if usage is not None else 0.0,
        usd=float(cost) if isinstance(cost, (int, float)) else None,
        calls=calls,
    )
