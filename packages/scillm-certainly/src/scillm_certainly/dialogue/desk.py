"""Tactic mode's desk: tells goals, runs tactics, and builds again what Lean no longer holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import ProverError, UsageError

from scillm_certainly.dialogue.lean import OneLean, reading
from scillm_certainly.dialogue.states import OPEN, Place, State, States, Stepped
from scillm_certainly.intake import text_fault

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_certainly.backends.records import Backend
    from scillm_certainly.records import Policy

KEPT = 256
"""States that Lean holds at once; one more, and the one that was not used for longest goes."""


@frozen(kw_only=True)
class Told:
    """What a tactic did: Lean's answer, and the numbers of the states it left."""

    number: int
    goals: Sequence[str]
    status: str
    messages: Sequence[Mapping[str, Json]] = ()
    traces: Sequence[str] = ()
    sorries: Sequence[Mapping[str, Json]] = ()
    """Each with its own `proofState`."""


class RefusedError(UsageError):
    """Lean says no to a tactic; the state stays as it was."""


class Desk:
    """One conversation. Remembers its states, and which of them its Lean holds at the moment."""

    def __init__(self, backend: Callable[[], Backend], policy: Policy, *, kept: int = KEPT) -> None:
        self.states = States()
        self.policy = policy
        self._lean = OneLean(backend)
        self._kept = kept
        self._held: OrderedDict[int, int] = OrderedDict()
        self._dropped: list[int] = []
        self._holder = 0

    @property
    def offered(self) -> bool:
        """Whether there is a Lean that can be told tactics."""
        return self._lean.offered

    @property
    def starts(self) -> int:
        """How many processes there were so far."""
        return self._lean.starts

    @property
    def held(self) -> int:
        """How many states Lean itself holds."""
        return len(self._held)

    def place(self, text: str, kind: str, index: int, goals: Sequence[str] | None) -> int:
        """The number of the goals at a place of `text`, as they were told, or None."""
        origin = Place(text=text, kind=kind, index=index)
        return self.states.add(State(origin=origin, goals=goals))

    async def look(self, text: str) -> Mapping[str, Json]:
        """Every sorry, first goal and tactic in `text`, with its place and its goals."""
        await self._begin()
        return await self._ask({**self._opening(text), "list": True})

    async def step(self, number: Json, tactic: Json) -> Told:
        """Run one tactic in a state; `RefusedError` when Lean does not take it."""
        self.states.get(number)
        if not isinstance(tactic, str):
            raise UsageError("tactic must be a text.")
        fault = text_fault("tactic", tactic)
        if fault:
            raise UsageError(f"Lean cannot be given this: {fault}.")
        await self._begin()
        with reading():
            told = await self._ask(self._stepping(await self._present(number), tactic))
            if "message" in told:
                raise RefusedError(f"Lean error:\n{str(told['message']).strip()}")
            return self._keep_all(number, tactic, told)

    async def again(self, number: int) -> State:
        """The state as Lean now tells it; `UsageError` when nothing leads to it."""
        await self._begin()
        with reading():
            await self._present(number)
        return self.states.get(number)

    async def aclose(self) -> None:
        """End the process; a later request starts another."""
        await self._lean.aclose()

    async def _begin(self) -> None:
        await self._lean.begin(self.policy.time_s)
        if self._holder != self._lean.starts:
            # Another process, which holds nothing yet.
            self._holder = self._lean.starts
            self._held.clear()
            self._dropped.clear()

    async def _present(self, number: int) -> int:
        """Lean's own name of a state, which is built again where it is not held."""
        way = self.states.way_to(number)
        held = max((at for at, one in enumerate(way) if one in self._held), default=-1)
        for one in way[held + 1 :]:
            await self._build(one)
        self._held.move_to_end(number)
        return self._held[number]

    async def _build(self, number: int) -> None:
        state = self.states.get(number)
        origin = state.origin
        if isinstance(origin, Place):
            keep = {"kind": origin.kind, "index": origin.index}
            told = await self._ask({**self._opening(origin.text), "keep": keep})
            status = OPEN
        else:
            told = await self._ask(self._stepping(self._held[origin.parent], origin.tactic))
            status = str(told.get("status"))
        if "message" in told:
            raise UsageError(f"Proof state {number} cannot be reached: {told['message']}")
        if isinstance(origin, Stepped):
            told, others = _part(told, origin.sorry)
            self._dropped += others
            status = status if origin.sorry is None else OPEN
        if "state" not in told:
            raise UsageError(f"Proof state {number} cannot be reached: it is not there.")
        goals = _texts(told["goals"])
        if state.goals is not None and goals != tuple(state.goals):
            raise ProverError(
                f"Proof state {number} was built again, and its goals are not what they were: "
                f"{goals} instead of {state.goals}."
            )
        self.states.tell(number, goals, status)
        self._hold(number, told["state"])

    def _keep_all(self, parent: int, tactic: str, told: Mapping[str, Json]) -> Told:
        sorries: list[Mapping[str, Json]] = []
        for at, row in enumerate(told["sorries"]):
            origin = Stepped(parent=parent, tactic=tactic, sorry=at)
            goal = str(row["goal"]).strip()
            number = self.states.add(State(origin=origin, goals=(goal,)))
            self._hold(number, row["state"])
            places = {name: row[name] for name in ("pos", "endPos") if row.get(name) is not None}
            sorries.append({**places, "goal": goal, "proofState": number})
        goals, status = _texts(told["goals"]), str(told["status"])
        origin = Stepped(parent=parent, tactic=tactic)
        number = self.states.add(State(origin=origin, goals=goals, status=status))
        self._hold(number, told["state"])
        return Told(
            number=number,
            goals=goals,
            status=status,
            messages=told["messages"],
            traces=_texts(told["traces"]),
            sorries=sorries,
        )

    def _hold(self, number: int, name: int) -> None:
        self._held[number] = name
        while len(self._held) > self._kept:
            self._dropped.append(self._held.popitem(last=False)[1])

    def _opening(self, text: str) -> dict[str, Json]:
        return {"op": "open", "code": text, "maxHeartbeats": self.policy.heartbeats}

    def _stepping(self, state: int, tactic: str) -> dict[str, Json]:
        permitted = list(self.policy.axioms)
        return {"op": "step", "state": state, "tactic": tactic, "axioms": permitted}

    async def _ask(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        dropped, self._dropped = self._dropped, []
        return await self._lean.ask({**request, "drop": dropped})


def _part(told: Mapping[str, Json], sorry: int | None) -> tuple[Mapping[str, Json], list[int]]:
    """The wanted one of the states a tactic left, and Lean's names of the others."""
    rows = [{**row, "goals": [row["goal"]]} for row in told["sorries"]]
    every = [*rows, told]
    at = len(rows) if sorry is None else sorry
    found: Mapping[str, Json] = every[at] if sorry is None or sorry < len(rows) else {}
    return found, [row["state"] for row in every if row is not found]


def _texts(rows: Sequence[Json]) -> tuple[str, ...]:
    return tuple(str(row).strip() for row in rows)
