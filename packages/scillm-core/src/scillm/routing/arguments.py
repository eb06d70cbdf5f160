"""Keyword arguments to a request: what is ours, what is the provider's, what is refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm.errors import UnsupportedParamError, UsageError
from scillm.models import OpenAIRecord
from scillm.resilience.spend import account_of
from scillm.routing.cachewish import read_wish
from scillm.routing.jsonmode import JSON_ARGUMENTS, MIME, JsonMode, json_mode, with_format
from scillm.routing.policy import POLICY_ARGUMENTS
from scillm.routing.refused import REFUSED

if TYPE_CHECKING:
    from scillm.records import Json, Message
    from scillm.resilience.spend import Account
    from scillm.routing.cachewish import Wish

BUDGETS = {"budget_usd": "usd", "budget_tokens": "tokens", "budget_requests": "requests"}
"""Arguments of a call that bound what it may spend, retries and rounds included."""

OURS = (
    "model",
    "messages",
    "stream",
    "timeout",
    "stream_timeout",
    "api_base",
    "base_url",
    "api_key",
    "custom_llm_provider",
    "extra_headers",
    "extra_body",
    *POLICY_ARGUMENTS,
    *JSON_ARGUMENTS,
    *BUDGETS,
    "budget",
    "max_budget",
    "cache",
    "caching",
)
"""The arguments SciLLM itself understands; every other one is the provider's."""

KNOWN = frozenset(OURS)
POLICY = frozenset(POLICY_ARGUMENTS)

REFUSED_PREFIXES = ("_", "retry_", "scillm_", "litellm_", "router_")
"""Names that only an SDK uses; a provider never sees them."""

NEAR = 0.84
"""Similarity above which an unknown name is taken for a misspelt argument of ours."""


@frozen(kw_only=True, slots=False)  # with so many fields, slots would take twice as long to fill
class Arguments:
    """One call's arguments, sorted. `params` are the provider's."""

    model: str | None
    messages: Sequence[Message] = ()
    input: Json = None
    """What is to be turned into vectors; then there are no messages."""
    stream: bool = False
    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    """In the place of `timeout_s` where the answer is streamed."""
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    provider: str | None = None
    extra_headers: Mapping[str, str] = field(factory=dict, repr=False)
    params: Mapping[str, Json] = field(factory=dict)
    json_mode: JsonMode | None = None
    policy: Mapping[str, Any] = field(factory=dict)
    """What was said about failure: retries, fallbacks, tags (see `routing.policy`)."""
    account: Account | None = field(default=None, repr=False)
    """What the call may spend; all its rounds, retries and fallbacks are paid from it."""
    notes: Mapping[str, Json] = field(factory=dict)
    """What is to be stamped on the answer, because it was done to the request."""
    cache: Wish | None = None
    """What the call wants of the response cache."""


def sorted_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments of `completion`, checked; None counts as not given.

    Raises `UnsupportedParamError` for a name that is an SDK's but not ours, or nearly one of ours,
    and `UsageError` for values that cannot be used. `extra_body` passes anything.
    """
    present = {name: value for name, value in given.items() if value is not None}
    if MIME in present:
        present = with_format(present)
    base_url = present.get("base_url")
    if base_url is not None and present.get("api_base", base_url) != base_url:
        raise UsageError("api_base and base_url are two names of one argument; pass one of them.")
    found: dict[str, Any] = {"model": None}
    for name, value in present.items():
        reader = READERS.get(name)
        if reader is not None:
            found[reader[0]] = reader[1](name, value)
    # Most calls say nothing but where to and what.
    return Arguments(**found) if present.keys() <= PLAIN else _with_more(present, found)


def _with_more(present: Mapping[str, Any], found: Mapping[str, Any]) -> Arguments:
    for name in present:
        if name not in KNOWN:
            refuse_other_sdks(name)
    mode = json_mode(present)
    # In JSON mode the format is asked for by the JSON loop, which may change it.
    held = KNOWN if mode is None else KNOWN | {"response_format"}
    params = {name: value for name, value in present.items() if name not in held}
    return Arguments(
        **{
            **found,
            "params": {**params, **found.get("params", {})},
            "json_mode": mode,
            "policy": {name: value for name, value in present.items() if name in POLICY},
            "account": call_account(present),
            "cache": read_wish(present),
        }
    )


def call_account(given: Mapping[str, Any]) -> Account | None:
    """The account of a call that has a budget of its own; `max_budget` is LiteLLM's budget_usd."""
    bounds = {unit: given[name] for name, unit in BUDGETS.items() if name in given}
    if "max_budget" in given:
        bounds.setdefault("usd", given["max_budget"])
    if "budget" in given:
        if bounds:
            raise UsageError("budget and budget_… say the same; pass one of them.")
        return account_of(given["budget"], name="call's budget")
    return account_of(bounds, name="call's budget") if bounds else None


def refuse_other_sdks(name: str) -> None:
    """Raise `UnsupportedParamError` when `name`, not ours, must not travel to a provider."""
    if name in REFUSED:
        raise UnsupportedParamError(
            f"The argument {name!r} is not supported: {REFUSED[name]}.", param=name
        )
    if name.startswith(REFUSED_PREFIXES):
        raise UnsupportedParamError(
            f"The argument {name!r} is not one of SciLLM's ({', '.join(OURS)}) and no provider's "
            "parameter has such a name. If this provider's has, pass it in extra_body.",
            param=name,
        )
    near = difflib.get_close_matches(name, OURS, n=1, cutoff=NEAR)
    if near:
        raise UnsupportedParamError(
            f"The argument {name!r} is unknown; did you mean {near[0]!r}? "
            "If the provider really has a parameter of this name, pass it in extra_body.",
            param=name,
        )


def checked_messages(name: str, value: Any) -> Sequence[Message]:
    """The messages, each an object; answers given back as messages become plain JSON."""
    if type(value) is list and all(type(message) is dict for message in value):
        return [*value]  # nearly always so, and found out ten times as fast
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise UsageError(
            f'{name} must be a list such as [{{"role": "user", "content": "…"}}], '
            f"but is a {type(value).__name__}."
        )
    messages = [m.to_dict() if isinstance(m, OpenAIRecord) else m for m in value]
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UsageError(
                f"{name}[{number}] must be an object with role and content, "
                f"but is a {type(message).__name__}."
            )
    return messages


def checked_text(name: str, value: Any) -> str:
    """A non-empty string."""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, but is a {type(value).__name__}.")
    if not value.strip():
        raise UsageError(f"{name} is empty; was an environment variable not set?")
    return value


def checked_timeout(name: str, value: Any) -> float | None:
    """Seconds above 0, or None when not given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise UsageError(f"{name} must be a number of seconds above 0, but is {value!r}.")
    return float(value)


def checked_mapping(name: str, value: Any) -> Mapping[str, Any]:
    """A mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} must be a mapping with text keys, but is {type(value).__name__}.")
    return dict(value)


def _truth(_name: str, value: Any) -> bool:
    return bool(value)


READERS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "model": ("model", checked_text),
    "messages": ("messages", checked_messages),
    "stream": ("stream", _truth),
    "timeout": ("timeout_s", checked_timeout),
    "stream_timeout": ("stream_timeout_s", checked_timeout),
    "api_base": ("api_base", checked_text),
    "base_url": ("api_base", checked_text),
    "api_key": ("api_key", checked_text),
    "custom_llm_provider": ("provider", checked_text),
    "extra_headers": ("extra_headers", checked_mapping),
    "extra_body": ("params", checked_mapping),
}
"""By argument: the field of `Arguments` it sets, and what checks its value."""

PLAIN = frozenset(READERS)
"""Those that say where to ask what."""
