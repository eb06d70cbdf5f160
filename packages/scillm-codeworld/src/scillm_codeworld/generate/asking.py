"""Asking a model for programs, through a Router or a Provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen
from scillm.errors import BadRequestError, UnprocessableEntityError, UsageError
from scillm.protocols import Provider
from scillm.records import ChatRequest
from scillm.search.solve import Asks

from scillm_codeworld.generate.contract import MANY_SCHEMA

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json
    from scillm.search.solve import Proposer

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


def asker(generator: Proposer | None) -> AskModel:
    """Asks `generator`, a Router or a Provider; None is the Router of `scillm.acompletion`.

    Raises `UsageError` for what is neither.
    """
    if generator is not None and not isinstance(generator, (Provider, Asks)):
        raise UsageError(
            f"generator must be a Router or a Provider, but is {generator!r}. A model is named "
            "by generator_model."
        )
    return partial(_told, generator)


async def _told(
    generator: Proposer | None,
    messages: Sequence[Mapping[str, Json]],
    wish: Wish,
    seed: int | None = None,
) -> Told:
    """One call of `wish.model` with the JSON schema.

    A server that refuses the schema is asked once more without: its form stands in words as well.
    """
    params: dict[str, Json] = {"temperature": wish.temperature, "max_tokens": wish.max_tokens}
    if seed is not None:
        params["seed"] = seed
    schema = {"name": "variants", "strict": True, "schema": dict(MANY_SCHEMA)}
    form = {"response_format": {"type": "json_schema", "json_schema": schema}}
    calls = 1
    try:
        answer = await _asked(generator, messages, wish, {**params, **form})
    except (BadRequestError, UnprocessableEntityError):
        calls = 2
        answer = await _asked(generator, messages, wish, params)
    usage, cost = answer.usage, answer.scillm_meta.get("response_cost")
    return Told(
        text=answer.text,
        model=answer.model,
        finish_reason=answer.choices[0].finish_reason if answer.choices else None,
        tokens=float(usage.total_tokens or 0) if usage is not None else 0.0,
        usd=float(cost) if isinstance(cost, (int, float)) else None,
        calls=calls,
    )


async def _asked(
    generator: Proposer | None,
    messages: Sequence[Mapping[str, Json]],
    wish: Wish,
    params: Mapping[str, Json],
) -> Completion:
    plain = [dict(message) for message in messages]
    if isinstance(generator, Provider):
        request = ChatRequest(
            model=wish.model, messages=plain, params=params, timeout_s=wish.timeout_s
        )
        return await generator.complete(request)
    more: dict[str, Json] = dict(params)
    if "response_format" in more:
        more["response_mode"] = "plain"  # what the answer is worth is seen here
    ask: Callable[..., Awaitable[Completion]]
    if generator is None:
        from scillm import acompletion as ask
    else:
        ask = generator.acompletion
    return await ask(
        model=wish.model,
        messages=plain,
        api_base=wish.api_base or None,
        timeout=wish.timeout_s,
        **more,
    )
