"""What a batch writes into its journal: answers, failures, and the start of each run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import asdict, field, frozen

from scillm.errors import ProviderError, ScillmError, UsageError

if TYPE_CHECKING:
    from scillm.records import Json

ANSWER, FAILURE, START, SPENT = "answer", "failure", "start", "spent"


NOT_OF_A_FAILURE = frozenset({"kind", "at", "elapsed_s", "spend"})


@frozen(kw_only=True)
class Failure:
    """Why an item has no answer. An item without an id is named by its place in the input."""

    id: str | None
    index: int | None = None
    """Counted from 0."""
    type: str
    """Name of the error class."""
    message: str
    retryable: bool = False
    """Another try, later, can help."""
    status_code: int | None = None
    body: str = ""
    request_id: str | None = None


def text_id(value: Json) -> str | None:
    """An id as text: a string that is not empty, or an integer. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return str(value)


def failure_of(error: Exception, *, id: str | None, index: int | None = None) -> Failure:
    """What is kept of an error."""
    told = error if isinstance(error, ProviderError) else ProviderError("")
    return Failure(
        id=id,
        index=index,
        type=type(error).__name__,
        message=str(error),
        retryable=isinstance(error, ScillmError) and error.retryable,
        status_code=told.status_code,
        body=told.body,
        request_id=told.request_id,
    )


def without_id(id_key: str, index: int, item: object) -> Failure:
    """The failure of an item that has no id."""
    came = "has none" if not isinstance(item, Mapping) else repr(item.get(id_key))
    return Failure(
        id=None,
        index=index,
        type="MissingId",
        message=f"Item {index} needs an id, a text or an integer, under {id_key!r}, but {came}.",
    )


def answer_entry(id: str, row: Mapping[str, Json], *, at: float, elapsed_s: float) -> Json:
    """The journal's row for an answer. `at` is seconds since 1970."""
    return {"kind": ANSWER, "id": id, "at": at, "elapsed_s": elapsed_s, "row": dict(row)}


def with_spend(entry: Json, spend: Mapping[str, int] | None) -> Json:
    """`entry` with what asking cost: requests, tokens, picodollars; nothing is left out as 0."""
    spent = {unit: amount for unit, amount in (spend or {}).items() if amount}
    return {**entry, "spend": spent} if spent else entry


def spent_entry(id: str, *, at: float) -> Json:
    """The journal's row for what was spent on an item without an outcome: it was cut off."""
    return {"kind": SPENT, "of": id, "at": at}


def failure_entry(failure: Failure, *, at: float, elapsed_s: float) -> Json:
    """The journal's row for a failure."""
    return {"kind": FAILURE, "at": at, "elapsed_s": elapsed_s, **asdict(failure)}


def start_entry(about: Mapping[str, Json], *, at: float) -> Json:
    """The journal's row for the start of a run: whatever the caller wants to say about it."""
    return {"kind": START, "at": at, "about": dict(about)}


def failure_in(entry: Mapping[str, Json]) -> Failure:
    """The failure that `failure_entry` wrote."""
    return Failure(**{k: v for k, v in entry.items() if k not in NOT_OF_A_FAILURE})


@frozen(kw_only=True)
class Index:
    """Where each id's last word is in the journal: id → byte. Grows as entries are noted."""

    answered: dict[str, int] = field(factory=dict)
    failed: dict[str, int] = field(factory=dict)
    nameless: dict[int, int] = field(factory=dict)
    """Items without an id: place in the input → byte."""
    starts: list[Mapping[str, Json]] = field(factory=list)
    spent: Counter[str] = field(factory=Counter)
    """What all rows together say was spent, by unit."""

    def refuse(self, entry: Mapping[str, Json]) -> None:
        """Raise `UsageError` for an entry about an id that is answered: its answer stands."""
        name = entry.get("id")
        if name is not None and name in self.answered:
            raise UsageError(
                f"{name!r} is answered already; an id has one answer. Ask processed_ids() first."
            )

    def note(self, entry: Mapping[str, Json], offset: int) -> None:
        """Take an entry into account."""
        kind, name = entry.get("kind"), entry.get("id")
        self.spent.update(entry.get("spend", {}))
        if kind == ANSWER and isinstance(name, str):
            self.failed.pop(name, None)
            self.answered[name] = offset
        elif kind == FAILURE and isinstance(name, str):
            self.failed[name] = offset
        elif kind == FAILURE:
            self.nameless[entry["index"]] = offset
        elif kind == START:
            self.starts.append(entry)
        elif kind == SPENT:
            return
        else:
            raise UsageError(
                f"The journal has a row of kind {kind!r}: it is sound, but not a batch's."
            )
