"""The helpers of the first SciLLM that ask one model for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve
from scillm import portal
from scillm.errors import UsageError
from scillm.routing.router import Router

from scillm_chutes.settings import accounts_from, first_base, loaded, pins_from

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Message

JSON_OBJECT = {"type": "json_object"}
SIX_HOURS_S = 21_600.0


def chutes_chat_json(messages: Sequence[Message], **arguments: Any) -> Completion:
    """The synchronous form of `achutes_chat_json`."""
    return portal.call(partial(achutes_chat_json, messages, **arguments))


async def achutes_chat_json(
    messages: Sequence[Message],
    *,
    model: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    timeout: float = 45.0,
    tenacious: bool | None = None,
    max_wall_time_s: float = SIX_HOURS_S,
    backoff_cap_s: float = 300.0,
    backoff_base: float = 2.0,
    **params: Any,
) -> Completion:
    """JSON from one fixed model: `model`, else CHUTES_TEXT_MODEL.

    `tenacious` (default: SCILLM_TENACIOUS) goes on after full models, pauses of the key, timeouts
    and 5xx until an answer comes or `max_wall_time_s` ends; a pause is waited for, never probed.
    `scillm_meta` says `tenacious`, `attempts` (how many rounds), `total_sleep_s`,
    `last_retry_after_s` and `attempt_log`.
    """
    settings = loaded()
    account = accounts_from(settings)[0]
    pins = pins_from(settings, "text", account.number)
    chosen = model or (pins[0] if pins else None)
    if not chosen:
        raise UsageError("No model was named: pass model=…, or set CHUTES_TEXT_MODEL.")
    tenacious = bool(settings["chutes_tenacious"]) if tenacious is None else tenacious
    router = Router(settings={**settings, "retry_meta": True})
    try:
        answer: Completion = await router.acompletion(
            chosen,
            messages,
            custom_llm_provider="chutes",
            api_base=account.api_base,
            api_key=account.api_key,
            response_format=JSON_OBJECT,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            retry_enabled=tenacious,
            retry_policy="tenacious" if tenacious else "none",
            retry_time_budget_s=max_wall_time_s,
            retry_base_s=backoff_base,
            retry_max_s=backoff_cap_s,
            **params,
        )
    finally:
        await router.aclose()
    retries = answer.additional_kwargs.get("router", {}).get("retries") or {}
    side = answer.additional_kwargs
    told = {
        "attempt_log": side.get("scillm", {}).get("attempts", []),
        "tenacious": tenacious,
        "attempts": int(retries.get("attempts", 0)) + 1,
        "total_sleep_s": retries.get("total_sleep_s", 0.0),
        "last_retry_after_s": retries.get("last_retry_after_s"),
    }
    return evolve(answer, additional_kwargs={**side, "scillm": {**side.get("scillm", {}), **told}})


def strict_json_completion(
    *,
    model: str,
    messages: Sequence[Message],
    api_base: str | None = None,
    api_key: str | None = None,
    extra_headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    **params: Any,
) -> Completion:
    """One checked JSON object from one model.

    The key may also come as a bearer token in `extra_headers`, or from the environment. An
    `x-api-key` header is taken as the key and sent as a bearer token, the only form Chutes reads.
    """
    return portal.call(
        partial(
            _one_json,
            model=model,
            messages=messages,
            api_base=api_base,
            api_key=api_key,
            extra_headers=extra_headers or {},
            timeout=timeout,
            **params,
        )
    )


async def hedged_json_completion(
    *,
    model: str,
    messages: Sequence[Message],
    api_base: str | None = None,
    key: str | None = None,
    timeout: float = 30.0,
    **params: Any,
) -> Completion:
    """`strict_json_completion` for async callers, under its older name.

    It races no header variants any more: only a bearer token is read, so a race would send
    anonymous calls, which count against the limiter, and could bill twice.
    """
    return await _one_json(
        model=model,
        messages=messages,
        api_base=api_base,
        api_key=key,
        extra_headers={},
        timeout=timeout,
        **params,
    )


async def _one_json(
    *,
    model: str,
    messages: Sequence[Message],
    api_base: str | None,
    api_key: str | None,
    extra_headers: Mapping[str, str],
    timeout: float,
    **params: Any,
) -> Completion:
    settings = loaded()
    key, rest = key_in(extra_headers)
    router = Router(settings=settings)
    try:
        answer: Completion = await router.acompletion(
            model,
            messages,
            custom_llm_provider="chutes",
            api_base=api_base or first_base(settings),
            api_key=api_key or key,
            extra_headers=rest,
            response_format=params.pop("response_format", JSON_OBJECT),
            timeout=timeout,
            **params,
        )
        return answer
    finally:
        await router.aclose()


def key_in(headers: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """The key that headers carry, and the headers without it."""
    key = None
    rest = {}
    for name, value in headers.items():
        if name.lower() in ("authorization", "x-api-key"):
            key = value.split(" ")[-1]
        else:
            rest[name] = value
    return key, rest
