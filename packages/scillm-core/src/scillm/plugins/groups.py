"""The seven entry-point groups, the shape each asks for, and where our own names come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

PROVIDERS = "scillm.providers"
RETRY_POLICIES = "scillm.retry_policies"
STRATEGIES = "scillm.strategies"
VERIFIERS = "scillm.verifiers"
COMMANDS = "scillm.commands"
EXTRAS = "scillm.extras"
HOOKS = "scillm.hooks"


@frozen(kw_only=True)
class Group:
    """One entry-point group. `methods` are looked for on classes; functions are factories."""

    name: str
    holds: str
    methods: Sequence[str] = ()


GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group(name=PROVIDERS, holds="provider", methods=("complete",)),
        Group(name=RETRY_POLICIES, holds="retry policy", methods=("next_delay",)),
        Group(name=STRATEGIES, holds="strategy", methods=("ask", "tell", "report")),
        Group(name=VERIFIERS, holds="verifier", methods=("verify",)),
        Group(name=COMMANDS, holds="command"),
        Group(name=EXTRAS, holds="helper"),
        Group(name=HOOKS, holds="hook plugin"),
    )
}

SIBLINGS: Mapping[str, str] = {
    "codex": "scillm-codex",
    "codex-agent": "scillm-codex",
    "code-agent": "scillm-codex",
    "code_agent": "scillm-codex",
    "mini-agent": "scillm-codex",
    "codeworld": "scillm-codeworld",
    "certainly": "scillm-certainly",
    "lean4": "scillm-certainly",
    "chutes": "scillm-chutes",
}
"""Names our own packages offer, so that a missing one can be answered with its pip line."""
