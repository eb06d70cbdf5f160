"""Claims in Lean: `{"code": …, "reference": …}`, or the code alone as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.plugins.settings import load
from scillm.records import Verdict

from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.items import parse_item
from scillm_certainly.records import PROVED, REFUTED, ProofVerdict
from scillm_certainly.results import result_of
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from scillm.records import Claim, Limits

    from scillm_certainly.pool.pool import Checker


class LeanVerifier:
    """Checks claims with Lean. `checker` defaults to this process's pool.

    A claim holds when its verdict is `proved`. It does not hold when Lean refuses the text, finds
    a gap, an axiom that is not permitted, tampering, or another statement than the reference's:
    that says that *this text* proves nothing, not that its statement is false. It is undecided
    otherwise, and the status says why.
    """

    def __init__(self, checker: Checker | None = None) -> None:
        self._checker = checker

    async def verify(self, claims: Sequence[Claim], /, *, limits: Limits) -> Sequence[Verdict]:
        """One verdict per claim, in order; `limits.time_s` is for each claim."""
        engine = CertainlyEngine(self._the_checker())
        requests = []
        for number, claim in enumerate(claims, 1):
            statement = claim.statement
            item = {"code": statement} if isinstance(statement, str) else statement
            options = {"check_seconds": limits.time_s}
            parsed = parse_item(item, number=number, options=options)
            requests.append(evolve(parsed, id=str(number)))
        found = await engine.check_all(requests)
        return [verdict_of(claim.id, row) for claim, row in zip(claims, found, strict=True)]

    def _the_checker(self) -> Checker:
        if self._checker is None:
            from scillm_certainly.pool.resident import Resident

            self._checker = Resident(load(more=SETTINGS))
        return self._checker


def verdict_of(claim_id: str, found: ProofVerdict) -> Verdict:
    """A proof's verdict in the core's form."""
    holds = True if found.status == PROVED else False if found.status in REFUTED else None
    return Verdict(
        claim_id=claim_id,
        holds=holds,
        status="malformed" if found.limit == "malformed" else found.status,
        reason=found.reason,
        evidence={**result_of(found), "item_id": claim_id},
    )
