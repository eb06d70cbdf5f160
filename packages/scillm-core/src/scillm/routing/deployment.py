"""Deployments: the rows of a Router's `model_list`, checked when the Router is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.providers.mock import MockReply
from scillm.resilience.account import account_name
from scillm.resilience.prices import per_token
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.jsonmode import JSON_ARGUMENTS
from scillm.routing.policy import CALLBACKS, FALLBACKS, call_tags, read_retry

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.resilience.prices import PerToken

NOT_ACTED_ON = frozenset(
    {
        "budget",
        "budget_duration",
        "budget_requests",
        "budget_tokens",
        "budget_usd",
        "cache",
        "caching",
        "disable_fallbacks",
        "max_budget",
        "max_fallbacks",
        *CALLBACKS,
        *FALLBACKS,
        *JSON_ARGUMENTS,
    }
)
"""Row keys without effect: they are refused. A call, or the Router, may have them."""

NUMBERS = (
    "weight",
    "rpm",
    "tpm",
    "cooldown_time",
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
)


@frozen(kw_only=True)
class Deployment:
    """One way to reach the model group `group`. Lower `order` is asked first.

    `rpm` and `tpm` are requests and tokens per minute, `cooldown_time` seconds, costs per token in
    whatever currency all rows share.
    """

    id: str
    group: str
    order: int = 1
    arguments: Arguments = field(repr=False)
    weight: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    cooldown_time: float | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    cache_read_input_token_cost: float | None = None
    max_parallel_requests: int | None = None
    account: str = ""
    """What it shares with the deployments of the same address and key; never the key itself."""
    price: PerToken | None = None
    """What its tokens cost, where the row names both costs."""
    tags: Sequence[str] = ()


def read_model_list(
    rows: Sequence[Mapping[str, Any]], *, skipped: Callable[[str], object] | None = None
) -> tuple[Deployment, ...]:
    """The deployments of `model_list`; `UsageError` names the row and what is wrong with it.

    With `skipped` a bad row is left out, and `skipped` is told why; one good row there must be.
    """
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Sequence):
        raise UsageError(f"model_list must be a list of rows, but is a {type(rows).__name__}.")
    deployments = []
    for number, row in enumerate(rows):
        try:
            deployments.append(_read_row(number, row))
        except UsageError as error:
            if skipped is None:
                raise
            skipped(error.message)
    if rows and not deployments:
        raise UsageError("No row of model_list can be used; the log has the reason of each.")
    seen: set[str] = set()
    for name in (deployment.id for deployment in deployments):
        if name in seen:
            raise UsageError(
                f"Two rows of model_list are the same deployment ({name}); give them different "
                'model_info={"id": …}.'
            )
        seen.add(name)
    return tuple(deployments)


def _read_row(number: int, row: Mapping[str, Any]) -> Deployment:
    where = f"model_list[{number}]"
    if not isinstance(row, Mapping):
        raise UsageError(f"{where} must be an object, but is a {type(row).__name__}.")
    unknown = sorted(set(row) - {"model_name", "litellm_params", "model_info"})
    if unknown:
        raise UsageError(
            f"{where} has {', '.join(unknown)}; a row has model_name, litellm_params, model_info."
        )
    group = row.get("model_name")
    params = row.get("litellm_params")
    info = row.get("model_info") or {}
    if not isinstance(group, str) or not group.strip():
        raise UsageError(f"{where} needs a model_name that is not empty, but has {group!r}.")
    if not isinstance(params, Mapping) or not isinstance(info, Mapping):
        raise UsageError(f"{where} needs litellm_params (and model_info, if any) as objects.")
    try:
        found = _read_params(params)
    except UsageError as error:
        raise type(error)(f"{where} ({group}): {error.message}") from error
    name = info.get("id") or _id_of(group, params)
    return Deployment(id=str(name), group=group, **found)


def _read_params(params: Mapping[str, Any]) -> dict[str, Any]:
    refused = sorted(NOT_ACTED_ON & set(params))
    if refused:
        raise UsageError(
            f"{', '.join(refused)} in litellm_params would have no effect: give it to the calls, "
            "or to the Router."
        )
    model = params.get("model")
    if not isinstance(model, str) or not model.strip() or model.rstrip().endswith("/"):
        raise UsageError(
            f"litellm_params.model must name a model, but is {model!r}; "
            "was an environment variable not set?"
        )
    for name in ("messages", "stream"):
        if name in params:
            raise UsageError(f"{name} belongs to the call, not to the deployment.")
    order = params.get("order", 1)
    if isinstance(order, bool) or not isinstance(order, int):
        raise UsageError(f"order must be a whole number, but is {order!r}.")
    tags = call_tags(params)
    read_retry(params)
    MockReply.read(params)
    rest = {
        name: value
        for name, value in params.items()
        if name not in ("order", "tags", "max_parallel_requests", *NUMBERS)
    }
    arguments = sorted_arguments(rest)
    if arguments.json_mode is not None:
        raise UsageError("A Python type as response_format belongs to the call.")
    return {
        "arguments": arguments,
        "order": order,
        "tags": tags,
        **{name: _number(name, params.get(name)) for name in NUMBERS},
        "max_parallel_requests": read_width("max_parallel_requests", params),
        "account": _account(arguments),
        "price": _price(params),
    }


def _account(arguments: Arguments) -> str:
    vendor = arguments.provider or (arguments.model or "").partition("/")[0]
    return account_name(vendor, arguments.api_base, arguments.api_key)


def read_width(name: str, given: Mapping[str, Any]) -> int | None:
    """How many calls may be in the air, or None; `UsageError` unless a whole number above 0."""
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"{name} must be a whole number above 0, but is {value!r}.")
    return value


def _price(params: Mapping[str, Any]) -> PerToken | None:
    # cost-based-routing also takes a row that names one side only; that is no price.
    both = all(params.get(f"{side}_cost_per_token") is not None for side in ("input", "output"))
    return per_token(params, "litellm_params") if both else None


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
        raise UsageError(f"{name} must be a number, 0 or more, but is {value!r}.")
    return float(value)


def _id_of(group: str, params: Mapping[str, Any]) -> str:
    public = {
        key: value for key, value in params.items() if key not in ("api_key", "extra_headers")
    }
    text = json.dumps([group, public], sort_keys=True, default=repr)
    return f"{group}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def merged(call: Arguments, deployment: Arguments) -> Arguments:
    """The call's arguments over the deployment's; where to go is the deployment's alone."""
    params: dict[str, Json] = {**deployment.params, **call.params}
    return Arguments(
        model=deployment.model,
        messages=call.messages,
        input=call.input,
        stream=call.stream,
        timeout_s=call.timeout_s or deployment.timeout_s,
        stream_timeout_s=(call.stream_timeout_s or call.timeout_s or deployment.stream_timeout_s),
        api_base=deployment.api_base,
        api_key=deployment.api_key,
        provider=deployment.provider,
        extra_headers={**deployment.extra_headers, **call.extra_headers},
        params=params,
        policy=call.policy,
    )
