"""Several models on one question, and the judging of what they said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scillm import acompletion
from scillm.errors import ProviderError, SchemaError, ScillmError, UsageError
from scillm.fanout import each

from scillm_codex.agent.judging import (
    Judgement,
    judgement,
    look,
    orders,
    question,
    schema,
    unjudged,
    unopposed,
)
from scillm_codex.modelnames import PROVIDER, bare_model, is_for_codex

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json, Message

JUDGE_TOKENS = 2_000
"""Reasoning included: a judge that is cut off has not judged."""


def where_asked(model: str, base: str | None, key: str | None) -> dict[str, Any]:
    """Where a model is asked: ids without a provider are the sidecar's."""
    if not is_for_codex(model):
        return {"model": model}
    given = {"api_base": base, "api_key": key}
    return {
        "model": bare_model(model),
        "custom_llm_provider": PROVIDER,
        **{name: value for name, value in given.items() if value},
    }


def given_ones(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


async def aspawn_codex_agents(
    messages: Sequence[Message],
    model_ids: Sequence[str],
    codex_api_base: str | None = None,
    codex_api_key: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    concurrency: int = 8,
    timeout: float = 60.0,
) -> list[dict[str, Json]]:
    """One answer per model, in their order: `model`, `ok`, `content`, `error`, `response`."""
    options = given_ones(temperature=temperature, max_tokens=max_tokens, timeout=timeout)

    async def one(model: str) -> dict[str, Json]:
        where = where_asked(model, codex_api_base, codex_api_key)
        try:
            answer: Completion = await acompletion(
                messages=list(messages), stream=False, **where, **options
            )
        except ScillmError as error:
            failed = f"{type(error).__name__}: {error.message}"
            return {"model": model, "ok": False, "content": "", "error": failed, "response": None}
        good = bool(answer.text.strip())
        return {
            "model": model,
            "ok": good,
            "content": answer.text,
            "error": None if good else "the answer has no text",
            "response": answer.to_dict(),
        }

    return await each(one, model_ids, limit=concurrency)


async def aanswer_text_multi(
    messages: Sequence[Message],
    model_ids: Sequence[str],
    judge_model: str,
    *,
    codex_api_base: str | None = None,
    codex_api_key: str | None = None,
    judge_via_codex: bool = True,
    temperature: float | None = None,
    max_tokens: int | None = 512,
    timeout: float = 60.0,
) -> dict[str, Json]:
    """Ask several models, let a judge choose: `answers`, `errors`, `best_index`, `tie`, `judge`.

    `best_index` is None for a tie, when nobody answered, and when the judge failed. Failed answers
    are never judged.
    """
    if not model_ids:
        raise UsageError("answer_text_multi needs at least one model.")
    told = await aspawn_codex_agents(
        messages,
        model_ids,
        codex_api_base,
        codex_api_key,
        temperature,
        max_tokens,
        timeout=timeout,
    )
    answers = [row["content"] for row in told]
    places = [place for place, row in enumerate(told) if row["ok"]]
    judge = judge_model if judge_via_codex or "/" in judge_model else f"openai_like/{judge_model}"
    found = await judged(
        [dict(message) for message in messages],
        answers,
        places,
        where=where_asked(judge, codex_api_base, codex_api_key),
        criteria="Which candidate answers the task best?",
        timeout=timeout,
    )
    return {
        "answers": answers,
        "errors": [row["error"] for row in told],
        "best_index": found.best,
        "tie": found.reason in ("tie", "disagreed"),
        "judge": told_of(found),
        "judge_raw": json.dumps(list(found.looks), ensure_ascii=False),
    }


async def judged(
    task: Json,
    candidates: Sequence[Json],
    places: Sequence[int],
    *,
    where: Mapping[str, Any],
    criteria: str,
    timeout: float,
) -> Judgement:
    """What a judge, asked in both orders, makes of the candidates at these places.

    A judge that fails, or gives no verdict of the form that was asked for, costs nobody the answers
    there are: it is told as `judge_failed`.
    """
    if len(places) < 2:
        return unopposed(places)

    async def seen(order: list[int]) -> dict[str, Json]:
        answer: Completion = await acompletion(
            messages=question(task, candidates, order, criteria=criteria),
            response_mode="schema_first",
            json_schema=schema(len(order)),
            repair_rounds=1,
            temperature=0,
            max_tokens=JUDGE_TOKENS,
            timeout=timeout,
            stream=False,
            **where,
        )
        return look(json.loads(answer.text), order)

    try:
        looks = await each(seen, orders(places), limit=2)
    except (ProviderError, SchemaError) as error:
        return unjudged(f"{type(error).__name__}: {error.message}")
    return judgement(looks)


def told_of(found: Judgement) -> dict[str, Json]:
    """A judgement in plain JSON."""
    return {
        "best_index": found.best,
        "tied": list(found.tied),
        "reason": found.reason,
        "rationale_short": found.rationale,
        "looks": [dict(seen) for seen in found.looks],
    }
