"""From a call's arguments to its legs: groups, aliases, ids, patterns, and calls of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from scillm.errors import UnknownModelError
from scillm.plugins.groups import GROUPS, PROVIDERS
from scillm.plugins.registry import not_found_message
from scillm.providers.mock import Mock, MockReply
from scillm.records import ChatRequest, EmbeddingRequest, Endpoint, evolve
from scillm.routing.deployment import merged
from scillm.routing.fallback import filled, pattern_match
from scillm.routing.legs import GroupLegs, Leg, Legs, OneLeg, groups_of
from scillm.routing.policy import call_tags
from scillm.routing.target import Target, target_of
from scillm.runs.cache_rows import public_headers

if TYPE_CHECKING:
    from scillm.protocols import Provider
    from scillm.records import Json
    from scillm.routing.arguments import Arguments
    from scillm.routing.deployment import Deployment
    from scillm.routing.hosting import Hosting
    from scillm.routing.legs import Board


MOST_PLACES = 500
"""Places of calls that name their own that are kept, each with its provider; a program with ever
new keys fills nothing."""


@frozen(kw_only=True)
class _Place:
    """Where a call goes, whatever it asks. `known` are the providers there were."""

    row: Deployment | None
    known: Sequence[str]
    endpoint: Endpoint
    model: str
    provider: Callable[[], Provider] = field(repr=False)
    timeout_s: float
    """Where the call itself says nothing, as `stream_timeout_s` for a call that streams."""
    stream_timeout_s: float


class Planner:
    """Knows a Router's groups and how to reach their deployments.

    `fixed` has the last word on the parameters of every request, whoever gave them."""

    def __init__(
        self,
        hosting: Hosting,
        deployments: Sequence[Deployment],
        *,
        aliases: Mapping[str, str],
        board: Board,
        timeout_s: float | None = None,
        stream_timeout_s: float | None = None,
        fixed: Callable[[Mapping[str, Json]], Mapping[str, Json]] | None = None,
    ) -> None:
        self._hosting = hosting
        self._timeout_s = timeout_s
        self._stream_timeout_s = stream_timeout_s
        self._fixed = fixed
        self._aliases = aliases
        self._board = board
        self._serve(deployments, board)

    def replace(self, deployments: Sequence[Deployment]) -> None:
        """Other deployments from now on; calls on their way end with those they began with.

        Rests go on by deployment id; loads and latencies begin anew.
        """
        load = self._board.load.anew(len(deployments))
        self._serve(deployments, evolve(self._board, load=load))

    def _serve(self, deployments: Sequence[Deployment], board: Board) -> None:
        self._groups = groups_of(deployments, board)
        self._places: dict[str, _Place] = {}
        self._own_places: dict[tuple[str | None, ...], _Place] = {}
        self._by_id = {row.id: (position, row) for position, row in enumerate(deployments)}

    def knobs(self, model: str) -> Mapping[str, Any]:
        """The retry arguments of the group's rows."""
        group = self._groups.get(self._aliases.get(model, model))
        return {} if group is None else group.knobs

    def serves(self, model: str) -> bool:
        """Whether a call to `model` that names no place of its own can go anywhere."""
        name = self._aliases.get(model, model)
        is_known = name in self._groups or name in self._by_id
        return is_known or not self._groups or pattern_match(name, list(self._groups)) is not None

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

    def identity(self, call: Arguments, model: str) -> Json:
        """Who may answer a call to `model` and what is asked of them, without any credentials."""
        legs = self.legs(call, model)
        if isinstance(legs, GroupLegs):
            places = [_place(row.arguments) for row in legs.deployments()]
        else:
            leg = legs.next(set())
            assert leg is not None
            asked, at = leg.request, leg.endpoint
            headers = public_headers(at.extra_headers)
            places = [[at.provider, at.api_base, asked.model, asked.params, headers]]
        settings = self._hosting.host().settings
        bases = {name: settings[name] for name in settings if name.endswith("api_base")}
        identity = [places, bases, public_headers(call.extra_headers)]
        return identity if self._fixed is None else [*identity, "deterministic"]

    def _row_leg(
        self,
        call: Arguments,
        row: Deployment,
        position: int,
        *,
        requested: str,
        stars: Sequence[str],
    ) -> Leg:
        if stars or call.extra_headers or call.policy or row.arguments.policy:
            arguments = merged(call, row.arguments)
            if stars and arguments.model and "*" in arguments.model:
                arguments = evolve(arguments, model=filled(arguments.model, stars))
            return self._leg(arguments, requested=requested, row=row, position=position)
        # The call brings nothing that changes where it goes, so that is worked out once per row.
        known = self._hosting.registry.names(PROVIDERS)
        place = self._places.get(row.id)
        if place is None or place.row is not row or place.known is not known:
            place = self._places[row.id] = self._place_of(row.arguments, row.arguments.model, row)
        return self._leg_at(place, call, requested=requested, position=position)

    def _leg(
        self,
        call: Arguments,
        *,
        requested: str,
        row: Deployment | None = None,
        position: int = 0,
    ) -> Leg:
        name = call.model or requested
        if row is None and not (call.extra_headers or call.policy):
            place = self._own_place(call, name)
        else:
            place = self._place_of(call, name, row)
        return self._leg_at(place, call, requested=requested, position=position)

    def _own_place(self, call: Arguments, name: str) -> _Place:
        """The place of a call that names its own; a program mostly has a few of them."""
        known = self._hosting.registry.names(PROVIDERS)
        key = (name, call.provider, call.api_base, call.api_key)
        place = self._own_places.get(key)
        if place is None or place.known is not known:
            place = self._place_of(call, name, None)
            if len(self._own_places) >= MOST_PLACES:
                self._own_places.clear()
            self._own_places[key] = place
        return place

    def _place_of(self, call: Arguments, name: str | None, row: Deployment | None) -> _Place:
        mock = MockReply.read(call.policy) if call.policy else None
        if mock is None and row is not None and row.arguments.policy:
            mock = MockReply.read(row.arguments.policy)
        name = name or ""
        target = Target(provider="mock", model=name) if mock else self._target(call, name)
        endpoint = Endpoint(
            provider=target.provider,
            api_base=call.api_base,
            api_key=call.api_key,
            extra_headers=call.extra_headers,
            name=row.id if row else "",
        )
        builder = partial(Mock, mock) if mock else self._hosting.builder(endpoint, row, call)
        whole_s, stream_s = self._timeouts(row)
        return _Place(
            row=row,
            known=self._hosting.registry.names(PROVIDERS),
            endpoint=endpoint,
            model=target.model,
            provider=builder,
            timeout_s=whole_s,
            stream_timeout_s=stream_s,
        )

    def _leg_at(self, place: _Place, call: Arguments, *, requested: str, position: int) -> Leg:
        hooks, row, params = self._hosting.hooks, place.row, call.params
        if row is not None and row.arguments.params:
            params = {**row.arguments.params, **params}
        model = hooks.resolve_model(place.model, place.endpoint)
        timeout_s = call.timeout_s or place.timeout_s
        if call.stream:
            timeout_s = call.stream_timeout_s or call.timeout_s or place.stream_timeout_s
        request: ChatRequest | EmbeddingRequest
        if call.input is not None:
            request = EmbeddingRequest(
                model=model,
                input=call.input,
                params=params,
                timeout_s=timeout_s,
                requested_model=requested,
            )
        else:
            request = ChatRequest(
                model=model,
                messages=call.messages,
                params=params,
                stream=call.stream,
                timeout_s=timeout_s,
                requested_model=requested,
            )
            request = hooks.shape_request(request)
            if self._fixed is not None:
                request = evolve(request, params=self._fixed(request.params))
        return Leg(
            endpoint=place.endpoint,
            request=request,
            provider=place.provider,
            group=row.group if row else "",
            deployment=row,
            position=position,
        )

    def _timeouts(self, row: Deployment | None) -> tuple[float, float]:
        """The nearest word, the row's before the Router's; a stream may have its own."""
        ways = [(self._stream_timeout_s, self._timeout_s)]
        if row is not None:
            ways.insert(0, (row.arguments.stream_timeout_s, row.arguments.timeout_s))
        default_s = self._hosting.host().settings.get("timeout_s", 600.0)
        whole = next((whole for _, whole in ways if whole), default_s)
        return whole, next((one for way in ways for one in way if one), default_s)

    def _target(self, call: Arguments, name: str) -> Target:
        return target_of(
            name,
            provider=call.provider,
            api_base=call.api_base,
            known=self._hosting.registry.names(PROVIDERS),
            default_provider=self._hosting.host().settings.get("default_provider"),
            missing=self._missing,
        )

    def _missing(self, name: str) -> str:
        return not_found_message(GROUPS[PROVIDERS], name, self._hosting.registry.names(PROVIDERS))


def _place(row: Arguments) -> list[Json]:
    mocks = {name: value for name, value in row.policy.items() if name.startswith("mock_")}
    headers = public_headers(row.extra_headers)
    return [row.provider, row.api_base, row.model, row.params, headers, mocks]
