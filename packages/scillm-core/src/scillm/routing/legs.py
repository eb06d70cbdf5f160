"""Where a call can go next: one leg per deployment, chosen by health, load and strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from scillm.errors import APITimeoutError, RateLimitError
from scillm.routing.choose import Level, levels_of, pick, with_tags
from scillm.routing.load import MINUTE_S, Load

if TYPE_CHECKING:
    from scillm.errors import ScillmError
    from scillm.protocols import Provider
    from scillm.records import ChatRequest, EmbeddingRequest, Endpoint
    from scillm.resilience.health import Health
    from scillm.routing.deployment import Deployment


@frozen(kw_only=True)
class Leg:
    """One endpoint a call may go to, with the request as it is asked there."""

    endpoint: Endpoint
    request: ChatRequest | EmbeddingRequest
    provider: Callable[[], Provider] = field(repr=False)
    group: str = ""
    deployment: Deployment | None = None
    position: int = 0

    @property
    def key(self) -> str:
        """What tells legs of one call apart."""
        return self.deployment.id if self.deployment else ""


class Legs(Protocol):
    """The legs of a call to one group."""

    def next(self, tried: set[str]) -> Leg | None:
        """The leg to take now, or None when all are tried or rest."""
        ...

    def again(self, leg: Leg) -> Leg | None:
        """`leg` once more, beside the request it already has; None when it rests or is used up."""
        ...

    def rest_s(self) -> float:
        """Seconds until one of them may be taken; 0 when one may now."""
        ...

    def began(self, leg: Leg) -> None:
        """A request leaves."""
        ...

    def ended(self, leg: Leg) -> None:
        """It is over, however it ended."""
        ...

    def answered(self, leg: Leg, elapsed_s: float, tokens: int) -> None:
        """It was answered."""
        ...

    def overtaken(self, leg: Leg, elapsed_s: float) -> None:
        """It had not answered when another one did."""
        ...

    def failed(self, leg: Leg, error: ScillmError) -> None:
        """It failed."""
        ...


class OneLeg:
    """A call that names its own target: there is nothing to choose and nothing to remember."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def next(self, tried: set[str]) -> Leg | None:
        """The leg, once a round."""
        return None if tried else self._leg

    def again(self, leg: Leg) -> Leg | None:
        """The leg."""
        return leg

    def rest_s(self) -> float:
        """It never rests."""
        return 0.0

    def began(self, leg: Leg) -> None:
        """Nothing to note."""

    def ended(self, leg: Leg) -> None:
        """Nothing to note."""

    def answered(self, leg: Leg, elapsed_s: float, tokens: int) -> None:
        """Nothing to note."""

    def overtaken(self, leg: Leg, elapsed_s: float) -> None:
        """Nothing to note."""

    def failed(self, leg: Leg, error: ScillmError) -> None:
        """Nothing to note."""


@frozen(kw_only=True)
class Board:
    """What all flights of a Router share."""

    health: Health
    load: Load
    strategy: str
    buffer: float
    clock: Callable[[], float]
    draw: Callable[[], float]
    key_rests: bool = False
    """Whether a refusal for the rate is about the key, and so about all who have it."""


class Group:
    """The deployments of one model group. Remembers the order levels, also per set of tags.

    `knobs` are the retry arguments of its rows; of several rows the first that says something wins.
    """

    def __init__(
        self, name: str, deployments: Sequence[tuple[int, Deployment]], board: Board
    ) -> None:
        self.name = name
        self.board = board
        self.knobs: Mapping[str, Any] = {}
        for _, deployment in reversed(deployments):
            self.knobs = {**self.knobs, **deployment.arguments.policy}
        self._deployments = deployments
        self._levels: dict[frozenset[str], tuple[Level, ...]] = {}

    def levels(self, tags: Sequence[str]) -> tuple[Level, ...]:
        """Order levels of the deployments that serve `tags`; empty when none does."""
        key = frozenset(tags)
        if key not in self._levels:
            chosen = {d.id for d in with_tags([d for _, d in self._deployments], key)}
            self._levels[key] = levels_of([row for row in self._deployments if row[1].id in chosen])
        return self._levels[key]


def groups_of(deployments: Sequence[Deployment], board: Board) -> dict[str, Group]:
    """The model groups of a Router, each deployment with its position in the whole list."""
    rows: dict[str, list[tuple[int, Deployment]]] = {}
    for position, deployment in enumerate(deployments):
        rows.setdefault(deployment.group, []).append((position, deployment))
    return {name: Group(name, members, board) for name, members in rows.items()}


class GroupLegs:
    """The legs of one call to a group."""

    def __init__(
        self,
        group: Group,
        levels: Sequence[Level],
        leg_for: Callable[[Deployment, int], Leg],
        *,
        streamed: bool,
    ) -> None:
        self._group = group
        self._board = group.board
        self._levels = levels
        self._leg_for = leg_for
        self._streamed = streamed

    def deployments(self) -> list[Deployment]:
        """All that may answer, by order."""
        return [row for level in self._levels for row in level.deployments]

    def next(self, tried: set[str]) -> Leg | None:
        """The leg the strategy picks in the lowest order level that has an open one."""
        board = self._board
        now = board.clock()
        board.load.sweep(now)
        everything_open = not tried and not board.health.anything_rests(now)
        for level in self._levels:
            eligible = None
            if not everything_open or level.limited:
                eligible = self._eligible(level, tried, now)
            index = pick(
                level,
                eligible,
                strategy=board.strategy,
                metric=self._metric(level),
                draw=board.draw,
                buffer=board.buffer,
            )
            if index is not None:
                return self._leg_for(level.deployments[index], level.positions[index])
        return None

    def again(self, leg: Leg) -> Leg | None:
        """`leg`, unless it rests by now or its minute is used up."""
        now = self._board.clock()
        for level in self._levels:
            if leg.position in level.positions:
                index = level.positions.index(leg.position)
                return leg if self._wait_s(level, index, now) == 0.0 else None
        return None

    def rest_s(self) -> float:
        """Seconds until a deployment's rest, or its used-up minute, is over."""
        now = self._board.clock()
        waits = [
            self._wait_s(level, index, now)
            for level in self._levels
            for index in range(len(level.deployments))
        ]
        return min(waits, default=0.0)

    def began(self, leg: Leg) -> None:
        """Count it as in flight."""
        self._board.load.began(leg.position, self._board.clock())

    def ended(self, leg: Leg) -> None:
        """It is no longer in flight."""
        self._board.load.ended(leg.position)

    def answered(self, leg: Leg, elapsed_s: float, tokens: int) -> None:
        """Take its time, and its deployment's health, into account."""
        now = self._board.clock()
        self._board.health.succeeded(leg.key, now)
        self._board.load.answered(
            leg.position, now, elapsed_s, tokens=tokens, streamed=self._streamed
        )

    def overtaken(self, leg: Leg, elapsed_s: float) -> None:
        """Count the time that was waited in vain as an answer's."""
        self._board.load.answered(
            leg.position, self._board.clock(), elapsed_s, streamed=self._streamed
        )

    def failed(self, leg: Leg, error: ScillmError) -> None:
        """Let the deployment rest where the rules say so."""
        now = self._board.clock()
        if isinstance(error, APITimeoutError):
            self._board.load.timed_out(leg.position, now)
        deployment = leg.deployment
        rest_s = self._board.health.failed(
            leg.key,
            error,
            now,
            siblings=sum(len(level.deployments) for level in self._levels) - 1,
            cooldown_s=deployment.cooldown_time if deployment else None,
        )
        if self._board.key_rests and deployment and isinstance(error, RateLimitError):
            self._board.health.rest(deployment.account, now, rest_s)

    def _metric(self, level: Level) -> Sequence[float]:
        strategy = self._board.strategy
        if strategy == "simple-shuffle":
            return ()
        if strategy == "cost-based-routing":
            return level.costs
        return level.gather(self._board.load.metric(strategy, streamed=self._streamed))

    def _eligible(self, level: Level, tried: set[str], now: float) -> Callable[[int], bool]:
        def eligible(index: int) -> bool:
            deployment = level.deployments[index]
            return deployment.id not in tried and self._wait_s(level, index, now) == 0.0

        return eligible

    def _wait_s(self, level: Level, index: int, now: float) -> float:
        deployment = level.deployments[index]
        rest_s = self._board.health.rest_s(deployment.id, now)
        if self._board.key_rests:
            rest_s = max(rest_s, self._board.health.rest_s(deployment.account, now))
        used_up = self._board.load.over_limit(
            level.positions[index], now, rpm=deployment.rpm, tpm=deployment.tpm
        )
        return max(rest_s, MINUTE_S - now % MINUTE_S if used_up else 0.0)
