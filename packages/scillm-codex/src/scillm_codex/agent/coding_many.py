"""Programs by models, run and searched by CodeWorld where it is there, and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scillm import acompletion
from scillm.errors import UsageError
from scillm.fanout import each

from scillm_codex.agent.asking_many import given_ones, judged, told_of, where_asked
from scillm_codex.agent.ensuring import aensure_codex_agent
from scillm_codex.agent.judging import gated
from scillm_codex.modelnames import PREFIXES, PROVIDER

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json, Message

SHOWN = ("id", "status", "reason", "scores", "aggregate", "wall_s", "lines", "origin")
"""What a judge sees of a measured variant, beside its code where that is known."""
VARIANT = {
    "type": "object",
    "properties": {
        name: {"type": "string"}
        for name in ("id", "title", "complexity_tier", "rationale", "code", "notes")
    },
    "required": ["id", "title", "complexity_tier", "rationale", "code", "notes"],
    "additionalProperties": False,
}


async def aanswer_code_mcts(
    items: Sequence[Mapping[str, Json]],
    codeworld_base: str | None = None,
    *,
    rollouts: int | None = None,
    depth: int | None = None,
    uct_c: float | None = None,
    autogenerate_n: int | None = None,
    temperature: float | None = 0,
    generator_model: str | None = None,
    timeout: float = 120.0,
    **options: Any,
) -> Completion:
    """CodeWorld's search over the items' programs; with `autogenerate_n` a model writes them.

    The whole result is in `additional_kwargs["codeworld"]`.
    """
    search = given_ones(rollouts=rollouts, depth=depth, uct_c=uct_c, api_base=codeworld_base)
    wish = {}
    if autogenerate_n:
        wish = given_ones(
            n_variants=autogenerate_n, temperature=temperature, generator_model=generator_model
        )
    answer: Completion = await acompletion(
        "codeworld/mcts:auto" if autogenerate_n else "codeworld/mcts",
        items=[dict(item) for item in items],
        timeout=timeout,
        stream=False,
        **search,
        **wish,
        **options,
    )
    return answer


async def aanswer_code_mcts_autogen(
    items: Sequence[Mapping[str, Json]],
    *,
    n_variants: int = 6,
    rollouts: int | None = None,
    depth: int | None = None,
    uct_c: float | None = None,
    temperature: float | None = 0,
    codeworld_base: str | None = None,
    generator_model: str | None = None,
    codex_api_base: str | None = None,
    autostart_codex: bool = True,
    request_timeout: float = 120.0,
) -> Completion:
    """As `answer_code_mcts`, with programs written by a model.

    Without `generator_model` the model is Codex behind a sidecar, which is at `codex_api_base`, or
    found, or started for the call.
    """
    model = generator_model or f"{PROVIDER}/gpt-5"

    async def work(base: str | None) -> Completion:
        wish = {"model": model, "n": n_variants, "api_base": base, "temperature": temperature}
        return await aanswer_code_mcts(
            items,
            codeworld_base,
            rollouts=rollouts,
            depth=depth,
            uct_c=uct_c,
            timeout=request_timeout,
            autogenerate=given_ones(**wish),
        )

    codex = model.startswith(PREFIXES)
    if not codex or codex_api_base or not autostart_codex:
        return await work(codex_api_base if codex else None)
    async with await aensure_codex_agent() as base:
        return await work(str(base))


async def acodex_judge_codeworld_result(
    payload: Mapping[str, Json],
    *,
    judge_model: str = f"{PROVIDER}/gpt-5",
    timeout: float = 90.0,
    codex_api_base: str | None = None,
    item: int = 0,
) -> dict[str, Json]:
    """The best variant of one item of a CodeWorld result: `best_id`, `tied`, `rationale_short`.

    Only variants that are right most often are judged; where that is one, no model is asked.
    """
    results = payload.get("results") or []
    if not 0 <= item < len(results):
        raise UsageError(f"The result has {len(results)} items, but item {item} was to be judged.")
    return await _judged_item(
        results[item], judge_model, timeout=timeout, codex_api_base=codex_api_base
    )


async def _judged_item(
    result: Mapping[str, Json], judge_model: str, *, timeout: float, codex_api_base: str | None
) -> dict[str, Json]:
    variants = [row for row in result.get("variants") or () if isinstance(row, Mapping)]
    shown = [{name: row[name] for name in (*SHOWN, "code") if name in row} for row in variants]
    found = await judged(
        result.get("task"),
        shown,
        gated(variants),
        where=where_asked(judge_model, codex_api_base, None),
        criteria="All candidates are equally correct as measured. Which would you rather maintain?",
        timeout=timeout,
    )
    ids = [row.get("id") for row in variants]
    return {
        **told_of(found),
        "item_id": result.get("item_id"),
        "best_id": None if found.best is None else ids[found.best],
        "best_scores": None if found.best is None else variants[found.best].get("scores"),
        "tied": [ids[place] for place in found.tied],
        "rationale_short": found.rationale or ("no_variants" if not ids else found.reason),
    }


async def aanswer_code_mcts_autogen_and_judge(
    items: Sequence[Mapping[str, Json]],
    *,
    n_variants: int = 6,
    rollouts: int = 48,
    depth: int = 6,
    uct_c: float = 1.25,
    temperature: float | None = 0,
    codeworld_base: str | None = None,
    judge_model: str = f"{PROVIDER}/gpt-5",
    generator_model: str | None = None,
    autostart_codex: bool = True,
    timeout: float = 120.0,
    codex_api_base: str | None = None,
) -> dict[str, Json]:
    """Generate, run, search, judge every item: `codeworld`, `judges`, and the first `judge`."""
    answer = await aanswer_code_mcts_autogen(
        items,
        n_variants=n_variants,
        rollouts=rollouts,
        depth=depth,
        uct_c=uct_c,
        temperature=temperature,
        codeworld_base=codeworld_base,
        generator_model=generator_model,
        codex_api_base=codex_api_base,
        autostart_codex=autostart_codex,
        request_timeout=timeout,
    )
    payload = answer.additional_kwargs["codeworld"]

    async def of_item(result: Mapping[str, Json]) -> dict[str, Json]:
        return await _judged_item(
            result, judge_model, timeout=timeout, codex_api_base=codex_api_base
        )

    judges = await each(of_item, payload["results"], limit=4)
    return {"codeworld": payload, "judges": judges, "judge": judges[0] if judges else None}


async def aanswer_code_autogen_and_judge_codex_only(
    items: Sequence[Mapping[str, Json]],
    *,
    n_variants: int = 6,
    generator_model: str = "gpt-5",
    temperature: float | None = 0,
    max_tokens: int | None = 2000,
    judge_model: str = "gpt-5",
    timeout: float = 120.0,
    codex_api_base: str | None = None,
) -> dict[str, Json]:
    """Programs by one model and a verdict by another, without running anything.

    `variants` and `judge` are the first item's, `items` has every item's. Fewer variants than
    asked for are told in `requested` beside `valid`, never made up.
    """

    async def one(item: Mapping[str, Json]) -> dict[str, Json]:
        answer: Completion = await acompletion(
            messages=_wanted(item, n_variants),
            response_mode="schema_first",
            json_schema=_variants_schema(n_variants),
            repair_rounds=1,
            timeout=timeout,
            stream=False,
            **where_asked(generator_model, codex_api_base, None),
            **given_ones(temperature=temperature, max_tokens=max_tokens),
        )
        found = json.loads(answer.text)["variants"]
        kept = list({row["id"]: row for row in reversed(found)}.values())[::-1]
        judge = await _judged_item(
            {"task": item.get("task"), "variants": kept},
            judge_model,
            timeout=timeout,
            codex_api_base=codex_api_base,
        )
        return {"variants": kept, "judge": judge, "requested": n_variants, "valid": len(kept)}

    told = await each(one, items, limit=4)
    if not told:
        raise UsageError("There is no item to work on.")
    return {**told[0], "items": told}


def _wanted(item: Mapping[str, Json], count: int) -> list[Message]:
    document = {"task": item.get("task"), "context": item.get("context")}
    return [
        {"role": "system", "content": "You write programs. Answer with JSON only."},
        {
            "role": "user",
            "content": f"Write {count} different programs for this task, as `variants`. `code` is "
            "the whole program; ids differ.\n\n"
            f"{json.dumps(document, ensure_ascii=False, default=str)}",
        },
    ]


def _variants_schema(count: int) -> dict[str, Json]:
    variants = {"type": "array", "items": VARIANT, "minItems": 1, "maxItems": count}
    return {
        "type": "object",
        "properties": {"variants": variants},
        "required": ["variants"],
        "additionalProperties": False,
    }
