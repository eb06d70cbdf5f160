"""From a call's arguments to its legs: groups, aliases, ids, patterns, and calls of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from scillm.errors import UnknownModelError
from scillm.plugins.groups import GROUPS, PROVIDERS
from scillm.plugins.registry import not_found_message
from scillm.records import ChatRequest, Endpoint, evolve
from scillm.routing.deployment import merged
from scillm.routing.fallback import filled, pattern_match
from scillm.routing.legs import GroupLegs, Leg, Legs, OneLeg, groups_of
from scillm.routing.policy import call_tags
from scillm.routing.target import target_of

if TYPE_CHECKING:
    from scillm.routing.arguments import Arguments
    from scillm.routing.deployment import Deployment
    from scillm.routing.hosting import Hosting
    from scillm.routing.legs import Board


class Planner:
    """Knows a Router's groups and how to reach their deployments."""

    def __init__(
        self,
        hosting: Hosting,
        deployments: Sequence[Deployment],
        *,
        aliases: Mapping[str, str],
        board: Board,
    ) -> None:
        self._hosting = hosting
        self._aliases = aliases
        self._groups = groups_of(deployments, board)
        self._by_id = {row.id: (position, row) for position, row in enumerate(deployments)}

    def knobs(self, model: str) -> Mapping[str, Any]:
        """The retry arguments of the group's rows."""
        group = self._groups.get(self._aliases.get(model, model))
        return {} if group is None else group.knobs

    def legs(self, call: Arguments, model: str) -> Legs:
        """The legs of a call to `model`: a group, alias, deployment's id, pattern, or ad hoc."""
        name = self._aliases.get(model, model)
        stars: Sequence[str] = ()
        group = self._groups.get(name)
        if group is None:
            row = self._by_id.get(name)
            if row is not None:
                return OneLeg(self._row_leg(call, row[1], row[0], requested=model, stars=()))
            found = pattern_match(name, list(self._groups))
            if found is not None:
                group, stars = self._groups[found[0]], found[1]
        if group is not None:
            levels = group.levels(call_tags(call.policy))
            if not levels:
                raise UnknownModelError(
                    f"No deployment of {model!r} serves the tags "
                    f"{', '.join(call_tags(call.policy)) or '(none)'}."
                )
            return GroupLegs(
                group,
                levels,
                partial(self._row_leg, call, requested=model, stars=stars),
                streamed=call.stream,
            )
        if self._groups and not (call.api_base or call.provider):
            raise UnknownModelError(
                f"This Router has no model group {model!r}; it has "
                f"{', '.join(sorted(self._groups))}. To go past its list, pass api_base or "
                "custom_llm_provider.",
                candidates=sorted(self._groups),
            )
        return OneLeg(self._leg(call, requested=model))

    def _row_leg(
        self,
        call: Arguments,
        row: Deployment,
        position: int,
        *,
        requested: str,
        stars: Sequence[str],
    ) -> Leg:
        arguments = merged(call, row.arguments)
        if stars and arguments.model and "*" in arguments.model:
            arguments = evolve(arguments, model=filled(arguments.model, stars))
        leg = self._leg(arguments, requested=requested, row=row)
        return evolve(leg, position=position)

    def _leg(self, call: Arguments, *, requested: str, row: Deployment | None = None) -> Leg:
        settings = self._hosting.host().settings
        target = target_of(
            call.model or requested,
            provider=call.provider,
            api_base=call.api_base,
            known=self._hosting.registry.names(PROVIDERS),
            default_provider=settings.get("default_provider"),
            missing=self._missing,
        )
        endpoint = Endpoint(
            provider=target.provider,
            api_base=call.api_base,
            api_key=call.api_key,
            extra_headers=call.extra_headers,
            name=row.id if row else "",
        )
        request = ChatRequest(
            model=self._hosting.hooks.resolve_model(target.model, endpoint),
            messages=call.messages,
            params=call.params,
            stream=call.stream,
            timeout_s=call.timeout_s or settings.get("timeout_s", 600.0),
            requested_model=requested,
        )
        return Leg(
            endpoint=endpoint,
            request=self._hosting.hooks.shape_request(request),
            provider=self._hosting.builder(endpoint, row, call),
            group=row.group if row else "",
            deployment=row,
        )

    def _missing(self, name: str) -> str:
        return not_found_message(GROUPS[PROVIDERS], name, self._hosting.registry.names(PROVIDERS))
