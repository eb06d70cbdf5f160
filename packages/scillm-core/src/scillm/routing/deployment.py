"""Deployments: the rows of a Router's `model_list`, checked when the Router is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.policy import call_tags, read_retry

if TYPE_CHECKING:
    from scillm.records import Json

NOT_ACTED_ON = frozenset(
    {"budget_duration", "max_budget", "max_parallel_requests", "stream_timeout"}
)
"""Row keys of LiteLLM's Router that this version does not act on, and therefore refuses."""

NUMBERS = (
    "weight",
    "rpm",
    "tpm",
    "cooldown_time",
    "input_cost_per_token",
    "output_cost_per_token",
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
    tags: Sequence[str] = ()


def read_model_list(rows: Sequence[Mapping[str, Any]]) -> tuple[Deployment, ...]:
    """The deployments of `model_list`; `UsageError` names the row and what is wrong with it."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Sequence):
        raise UsageError(f"model_list must be a list of rows, but is a {type(rows).__name__}.")
    deployments = tuple(_read_row(number, row) for number, row in enumerate(rows))
    ids = [deployment.id for deployment in deployments]
    for name in ids:
        if ids.count(name) > 1:
            raise UsageError(
                f"Two rows of model_list are the same deployment ({name}); give them different "
                'model_info={"id": …}.'
            )
    return deployments


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
            f"{', '.join(refused)} in litellm_params is not acted on by this version; leave it out."
        )
    model = params.get("model")
    if not isinstance(model, str) or not model.strip():
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
    rest = {
        name: value for name, value in params.items() if name not in ("order", "tags", *NUMBERS)
    }
    return {
        "arguments": sorted_arguments(rest),
        "order": order,
        "tags": tags,
        **{name: _number(name, params.get(name)) for name in NUMBERS},
    }


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
        stream=call.stream,
        timeout_s=call.timeout_s or deployment.timeout_s,
        api_base=deployment.api_base,
        api_key=deployment.api_key,
        provider=deployment.provider,
        extra_headers={**deployment.extra_headers, **call.extra_headers},
        params=params,
        policy=call.policy,
    )
