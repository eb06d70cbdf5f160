"""Keyword arguments to a request: what is ours, what is the provider's, what is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm.errors import UnsupportedParamError, UsageError
from scillm.models import OpenAIRecord
from scillm.routing.jsonmode import JSON_ARGUMENTS, JsonMode, json_mode
from scillm.routing.policy import POLICY_ARGUMENTS

if TYPE_CHECKING:
    from scillm.records import Json, Message

OURS = (
    "model",
    "messages",
    "stream",
    "timeout",
    "api_base",
    "base_url",
    "api_key",
    "custom_llm_provider",
    "extra_headers",
    "extra_body",
    *POLICY_ARGUMENTS,
    *JSON_ARGUMENTS,
)
"""The arguments SciLLM itself understands; every other one is the provider's."""

REFUSED_PREFIXES = ("_", "retry_", "scillm_", "litellm_", "router_")
"""Names that only an SDK uses; a provider never sees them."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("success_callback", "failure_callback", "callbacks"),
        "listen to events with a hook plugin (scillm_event) instead",
    ),
    "model_list": "give deployments to Router(model_list=[…]) instead",
    **dict.fromkeys(
        ("mock_response", "mock_tool_calls", "mock_timeout"),
        "use the provider `echo`, which marks its answers",
    ),
    **dict.fromkeys(("cache", "caching"), "this version has no response cache"),
    "drop_params": "parameters are never dropped; leave out what the provider refuses",
    "additional_drop_params": "parameters are never dropped; leave out what the provider refuses",
    "allowed_openai_params": "every parameter is passed on; there is nothing to allow",
    "max_parallel_requests": "this version does not limit concurrency",
    "fallback_closest": "model names are never guessed",
    "fallback_closest_cutoff": "model names are never guessed",
    "api_version": "put the version into api_base or extra_headers",
    "deployment_id": "name the deployment as the model",
}

NEAR = 0.84
"""Similarity above which an unknown name is taken for a misspelt argument of ours."""


@frozen(kw_only=True)
class Arguments:
    """One call's arguments, sorted. `params` are the provider's."""

    model: str | None
    messages: Sequence[Message] = ()
    stream: bool = False
    timeout_s: float | None = None
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    provider: str | None = None
    extra_headers: Mapping[str, str] = field(factory=dict, repr=False)
    params: Mapping[str, Json] = field(factory=dict)
    json_mode: JsonMode | None = None
    policy: Mapping[str, Any] = field(factory=dict)
    """What was said about failure: retries, fallbacks, tags (see `routing.policy`)."""


def sorted_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments of `completion`, checked; None counts as not given.

    Raises `UnsupportedParamError` for a name that is an SDK's but not ours, or nearly one of ours,
    and `UsageError` for values that cannot be used. `extra_body` passes anything.
    """
    present = {name: value for name, value in given.items() if value is not None}
    for name in present:
        refuse_unless_known(name)
    api_base, base_url = present.get("api_base"), present.get("base_url")
    if api_base and base_url and api_base != base_url:
        raise UsageError("api_base and base_url are two names of one argument; pass one of them.")
    extra_body = checked_mapping("extra_body", present.get("extra_body", {}))
    mode = json_mode(present)
    # In JSON mode the format is asked for by the JSON loop, which may change it.
    held = OURS if mode is None else (*OURS, "response_format")
    params = {name: value for name, value in present.items() if name not in held}
    return Arguments(
        model=checked_text("model", present.get("model")),
        messages=checked_messages(present.get("messages", ())),
        stream=bool(present.get("stream", False)),
        timeout_s=checked_timeout(present.get("timeout")),
        api_base=checked_text("api_base", api_base or base_url),
        api_key=checked_text("api_key", present.get("api_key")),
        provider=checked_text("custom_llm_provider", present.get("custom_llm_provider")),
        extra_headers=checked_mapping("extra_headers", present.get("extra_headers", {})),
        params={**params, **extra_body},
        json_mode=mode,
        policy={name: present[name] for name in POLICY_ARGUMENTS if name in present},
    )


def refuse_unless_known(name: str) -> None:
    """Raise `UnsupportedParamError` for names that must not travel to a provider."""
    if name in OURS:
        return
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


def checked_messages(value: Any) -> Sequence[Message]:
    """The messages, each an object; answers given back as messages become plain JSON."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise UsageError(
            'messages must be a list such as [{"role": "user", "content": "…"}], '
            f"but is a {type(value).__name__}."
        )
    messages = [m.to_dict() if isinstance(m, OpenAIRecord) else m for m in value]
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UsageError(
                f"messages[{number}] must be an object with role and content, "
                f"but is a {type(message).__name__}."
            )
    return messages


def checked_text(name: str, value: Any) -> str | None:
    """A non-empty string, or None when not given."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, but is a {type(value).__name__}.")
    if not value.strip():
        raise UsageError(f"{name} is empty; was an environment variable not set?")
    return value


def checked_timeout(value: Any) -> float | None:
    """Seconds above 0, or None when not given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise UsageError(f"timeout must be a number of seconds above 0, but is {value!r}.")
    return float(value)


def checked_mapping(name: str, value: Any) -> Mapping[str, Any]:
    """A mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} must be a mapping with text keys, but is {type(value).__name__}.")
    return dict(value)
