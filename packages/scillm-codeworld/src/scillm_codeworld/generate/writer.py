"""Programs by a model for one job: the first ones of an item, and new ones while it is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from scillm.errors import (
    AuthenticationError,
    PaymentRequiredError,
    PermissionDeniedError,
    ScillmError,
)
from scillm.runs.canonical import digest
from scillm.runs.record import OUTSIDE, RecordDiffersError

from scillm_codeworld.engine.bench import CASE
from scillm_codeworld.engine.making import Made
from scillm_codeworld.engine.trying import program_of
from scillm_codeworld.generate.answers import UNPARSEABLE, Draft, read_drafts
from scillm_codeworld.generate.contract import ask_better, ask_fresh, ask_many
from scillm_codeworld.records import OK, Item, Variant

if TYPE_CHECKING:
    from scillm.records import Json, Trial
    from scillm.runs.record import Record

    from scillm_codeworld.engine.bench import Bench
    from scillm_codeworld.engine.trying import Tried
    from scillm_codeworld.generate.asking import AskModel, Told
    from scillm_codeworld.generate.contract import Place
    from scillm_codeworld.generate.wish import Wish

SEEDS = 2**31
"""Servers take seeds below this."""
FATAL = (AuthenticationError, PaymentRequiredError, PermissionDeniedError)
"""Errors after which a model is not asked again in this job: every further call would fail."""


@frozen(kw_only=True)
class Written:
    """An item with what was generated for it, and the account of that as results show it."""

    item: Item
    account: Mapping[str, Json]
    detail: Mapping[str, Json] = field(repr=False)
    """Digests and ends only: what the record's row says."""


class Writer:
    """Asks `ask` as `wish` says. Remembers whether asking is hopeless."""

    def __init__(self, wish: Wish, ask: AskModel, place: Place, *, seed: int) -> None:
        self.wish = wish
        self._ask = ask
        self._place = place
        self._seed = seed % SEEDS if wish.temperature > 0 else None
        self._hopeless = ""

    async def write(self, item: Item, bench: Bench) -> Written:
        """`item` with up to n more programs, from one call; each linted, then tried on one case.

        What the record already holds is not asked again. Programs that cannot be used are told
        with the reason, and nothing stands in for them.
        """
        messages = ask_many(item, self._place, n=self.wish.n)
        answer = await self._answer(f"{OUTSIDE}generate/{item.id}", messages, bench.record)
        drafts, problem = _drafts(answer, item, self.wish.n)
        drafts = [await self._smoked(draft, item, bench) for draft in drafts]
        good = [draft for draft in drafts if not draft.problem]
        variants = [self._variant(draft, messages, answer) for draft in good]
        account = {
            **self._account(messages, answer, problem),
            "n": self.wish.n,
            "valid": [draft.id for draft in good],
            "rejected": [{"id": draft.id, "reason": draft.problem}
                         for draft in drafts if draft.problem],
            "missing": self.wish.n - len(good),
        }  # fmt: skip
        detail = {
            "prompt": digest(messages),
            "answer": digest(answer["text"]),
            "programs": {draft.id: digest(draft.code) for draft in good},
            "rejected": account["rejected"],
            "problem": account["error"],
        }
        return Written(
            item=evolve(item, variants=[*item.variants, *variants]), account=account, detail=detail
        )

    async def make(self, item: Item, trial: Trial, known: Mapping[str, Sequence[Tried]]) -> Made:
        """One program for a trial of the search; see `making.Make`. `made_for` keeps it.

        What is asked follows from the trial alone: its number, its parent, and its inspirations.
        """
        messages = self._question(item, trial, known)
        answer = await self._told(messages)
        drafts, problem = _drafts(answer, item, 1)
        draft = drafts[0] if drafts else None
        cost = {"tokens": float(answer["tokens"]), "usd": float(answer["usd"] or 0.0)}
        detail = {"messages": messages, **answer}
        if draft is None:
            return Made(variant=None, reason=problem or UNPARSEABLE, cost=cost, detail=detail)
        variant = evolve(self._variant(draft, messages, answer), id=_named(trial.number, item))
        if draft.problem and not draft.twin:  # the search knows what to do with a twin
            return Made(variant=None, reason=draft.problem, cost=cost, detail=detail)
        origin = {**variant.origin, "parent": trial.parent}
        return Made(variant=evolve(variant, origin=origin), cost=cost, detail=detail)

    def _question(
        self, item: Item, trial: Trial, known: Mapping[str, Sequence[Tried]]
    ) -> list[dict[str, Json]]:
        codes = {variant.id: variant.code for variant in item.variants}
        codes |= {digest(variant.code): variant.code for variant in item.variants}
        if trial.parent is None or trial.parent not in codes:
            return ask_fresh(item, self._place, number=trial.number)
        payload = trial.payload if isinstance(trial.payload, Mapping) else {}
        others = [arm for arm in payload.get("inspirations", ()) if arm in codes]
        return ask_better(
            item,
            self._place,
            code=codes[trial.parent],
            found=known.get(trial.parent, ()),
            others=[(codes[arm], known.get(arm, ())) for arm in others],
        )

    async def _answer(
        self, key: str, messages: Sequence[Mapping[str, Json]], record: Record
    ) -> Mapping[str, Json]:
        kept = record.known(key)
        if kept is not None and kept["prompt"] == digest(list(messages)):
            return {**kept, "text": record.get(kept["text"])}
        if record.sealed:
            raise RecordDiffersError(
                f"The record has no answer of a model to {key}, and verifying asks nobody."
            )
        answer = await self._told(messages)
        record.keep(key, {**answer, "text": record.put(answer["text"]),
                          "prompt": record.put(list(messages))})  # fmt: skip
        return answer

    async def _told(self, messages: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """The answer as plain JSON; a failed call is one with an error."""
        if self._hopeless:
            return _plain(None, self._hopeless)
        try:
            return _plain(await self._ask(messages, self.wish, self._seed), "")
        except ScillmError as error:
            said = f"{type(error).__name__}: {error.message}"
            if isinstance(error, FATAL):
                self._hopeless = said
            return _plain(None, said)

    async def _smoked(self, draft: Draft, item: Item, bench: Bench) -> Draft:
        """Tried on the first public input. The search will ask the same, and get this answer."""
        if draft.problem:
            return draft
        program = program_of(item, Variant(id=draft.id, code=draft.code))
        run = await bench.ask(program, item.inputs[0], self._place.limits, purpose=CASE)
        if run.status == OK:
            return draft
        return evolve(draft, problem=f"on the first input it ended {run.status}: {run.reason}")

    def _variant(
        self, draft: Draft, messages: Sequence[Mapping[str, Json]], answer: Mapping[str, Json]
    ) -> Variant:
        origin = {
            "kind": "generated",
            "model": self.wish.model,
            "prompt_hash": digest(list(messages)),
            "response_hash": digest(answer["text"]),
            **draft.told,
        }
        return Variant(id=draft.id, code=draft.code, origin=origin)

    def _account(
        self, messages: Sequence[Mapping[str, Json]], answer: Mapping[str, Json], problem: str
    ) -> dict[str, Json]:
        return {
            "enabled": True,
            "skipped_by_env": False,
            "model": self.wish.model,
            "served_model": answer["model"],
            "temperature": self.wish.temperature,
            "max_tokens": self.wish.max_tokens,
            "prompt_hash": digest(list(messages)),
            "response_hash": digest(answer["text"]) if answer["text"] else None,
            "tokens": answer["tokens"],
            "usd": answer["usd"],
            "calls": answer["calls"],
            "error": answer["error"] or problem or None,
        }


def _drafts(answer: Mapping[str, Json], item: Item, most: int) -> tuple[list[Draft], str]:
    if answer["error"]:
        return [], str(answer["error"])
    taken = {variant.id: variant.code for variant in item.variants}
    drafts, problem = read_drafts(answer["text"], entry=item.entry, most=most, taken=taken)
    if not drafts and answer["finish_reason"] == "length":
        problem += "; the answer was cut off, so max_tokens is too small for it"
    return drafts, problem


def _plain(told: Told | None, error: str) -> dict[str, Json]:
    return {
        "text": "" if told is None else told.text,
        "model": None if told is None else told.model,
        "finish_reason": None if told is None else told.finish_reason,
        "tokens": 0.0 if told is None else told.tokens,
        "usd": None if told is None else told.usd,
        "calls": 0 if told is None else told.calls,
        "error": error,
    }


def _named(number: int, item: Item) -> str:
    name = f"made-{number}"
    while any(variant.id == name for variant in item.variants):
        name += "'"
    return name
