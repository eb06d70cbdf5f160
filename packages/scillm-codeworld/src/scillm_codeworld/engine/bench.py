"""The bench: a question to a program is asked once, and never when the record answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import anyio
from attrs import asdict, fields
from scillm.errors import StoredRunError
from scillm.runs.canonical import digest
from scillm.runs.record import OUTSIDE, RecordDiffersError

from scillm_codeworld.records import OK, SANDBOX_REFUSED, Execution, Program

if TYPE_CHECKING:
    from scillm.records import Json, Limits
    from scillm.runs.record import Record

    from scillm_codeworld.engine.slots import Slots

Run: TypeAlias = "Callable[[Program, Json, Limits], Awaitable[Execution]]"
"""Runs one program on one input, as `Sandbox.run` does."""

CASE = "case"
TIMING = "timing"
PULL = "pull"
"""A timing that a search acts on: a rerun takes it from the record, as it can give no other."""
ALONE = frozenset({TIMING, PULL})
SCORE = "score"
CHECK = "check"
KNOWN = frozenset(row.name for row in fields(Execution))


class Bench:
    """Where one item's programs are run. Remembers the answers, and what is being asked now.

    `fresh` tells whether anything was really done, and not only read from the record.

    The same program, input and purpose cost one execution, however often and from however many
    places they are asked. Of a sealed record nothing is executed: an unknown question is an error.
    """

    def __init__(self, run: Run, record: Record, slots: Slots, *, item: str) -> None:
        self._run = run
        self.record = record
        self._slots = slots
        self._item = item
        self._answers: dict[str, Execution] = {}
        self._asking: dict[str, anyio.Event] = {}
        self.fresh = False

    async def ask(
        self, program: Program, value: Json, limits: Limits, *, purpose: str, repeat: int = 0
    ) -> Execution:
        """What `program` does with `value`. A timing run has the machine to itself."""
        key = question(self._item, program, value, limits, purpose=purpose, repeat=repeat)
        while key not in self._answers:
            if key in self._asking:
                await self._asking[key].wait()
                continue
            asked = self._asking[key] = anyio.Event()
            try:
                self._answers[key] = await self._answer(key, program, value, limits, purpose)
            finally:
                del self._asking[key]
                asked.set()
        return self._answers[key]

    async def _answer(
        self, key: str, program: Program, value: Json, limits: Limits, purpose: str
    ) -> Execution:
        kept = self.record.known(key)
        if kept is not None:
            try:
                return self._recalled(kept)
            except StoredRunError:  # a power cut may have lost the answer itself: ask again
                if self.record.sealed:
                    raise
        if self.record.sealed:
            raise RecordDiffersError(
                f"The record has no answer to a {purpose} question of item {self._item!r} "
                f"({key}), and verifying executes nothing."
            )
        self.fresh = True
        place = self._slots.alone() if purpose in ALONE else self._slots.one()
        async with place:
            found = await self._run(program, value, limits)
            if found.status == SANDBOX_REFUSED:  # ours, not the program's: worth a second try
                found = await self._run(program, value, limits)
        self.record.put(program.code)
        self.record.put(value)
        self.record.keep(key, self._kept(found))
        return found

    def _kept(self, found: Execution) -> dict[str, Json]:
        row = asdict(found)
        row["isolation"] = self.record.put(dict(found.isolation))
        if found.status == OK:
            row["output"] = self.record.put(found.output)
        return row

    def _recalled(self, row: Mapping[str, Json]) -> Execution:
        known = {name: value for name, value in row.items() if name in KNOWN}
        known["isolation"] = self.record.get(row["isolation"])
        if row["status"] == OK:
            known["output"] = self.record.get(row["output"])
        known["frames"] = tuple(known.get("frames") or ())
        return Execution(**known)


def question(
    item: str, program: Program, value: Json, limits: Limits, *, purpose: str, repeat: int
) -> str:
    """The name of one execution: the same for the same program, input, limits and purpose."""
    name = digest(
        {
            "item": item,
            "program": asdict(program),
            "input": digest(value),
            "limits": asdict(limits),
            "purpose": purpose,
            "repeat": repeat,
        }
    )
    return f"{OUTSIDE}{name}" if purpose == PULL else name
