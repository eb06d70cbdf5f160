"""What a fallback changes in the call it takes over. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.records import evolve
from scillm.routing.arguments import Arguments, sorted_arguments

if TYPE_CHECKING:
    from scillm.records import Message
    from scillm.routing.fallback import Fallback, FallbackRules

OF_A_REQUEST = ("tags", "mock_response", "mock_timeout")
"""What a request is told of `POLICY_ARGUMENTS`; the others are about the whole call."""


def check_fallbacks(
    rules: FallbackRules, check_messages: Callable[[Sequence[Message]], object]
) -> None:
    """Raise `UsageError` for a fallback that changes what no fallback can.

    It may bring messages, which `check_messages` looks at, parameters, and where to ask and how.
    """
    tables = (rules.general, rules.context_window, rules.content_policy)
    for target in [one for table in tables for targets in table.values() for one in targets]:
        if not target.changes:
            continue
        extra = sorted_arguments(target.changes)
        check_messages(extra.messages)
        wrong = [name for name in extra.policy if name not in OF_A_REQUEST]
        wrong += ["stream"] if extra.stream else []
        wrong += ["structured output"] if extra.json_mode is not None else []
        wrong += ["a budget"] if extra.account is not None else []
        wrong += ["cache"] if extra.cache is not None else []
        if wrong:
            raise UsageError(
                f"The fallback {target.model!r} cannot change {', '.join(wrong)}: that holds for "
                "the call with all its fallbacks. Give it to the call, or to the Router."
            )


def changed(call: Arguments, target: Fallback) -> Arguments:
    """The call's arguments with what the fallback changes."""
    if not target.changes:
        return call
    extra = sorted_arguments(target.changes)
    return evolve(
        call,
        messages=extra.messages if "messages" in target.changes else call.messages,
        params={**call.params, **extra.params},
        timeout_s=extra.timeout_s or call.timeout_s,
        stream_timeout_s=extra.stream_timeout_s or extra.timeout_s or call.stream_timeout_s,
        api_base=extra.api_base or call.api_base,
        api_key=extra.api_key or call.api_key,
        provider=extra.provider or call.provider,
        extra_headers={**call.extra_headers, **extra.extra_headers},
        policy={**call.policy, **extra.policy},
    )
