"""The verification loop: claims in, one verdict per claim out, omissions caught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scillm.errors import EngineError, UsageError
from scillm.fanout import each
from scillm.records import Limits

if TYPE_CHECKING:
    from scillm.protocols import Verifier
    from scillm.records import Claim, Verdict


async def verify(
    verifier: Verifier,
    claims: Sequence[Claim],
    *,
    limits: Limits | None = None,
    batch: int = 16,
    width: int = 1,
) -> list[Verdict]:
    """Verdicts in the order of `claims`, asked for in batches, `width` batches at a time.

    Raises `UsageError` for doubled claim ids, and `EngineError` when the verifier leaves a claim
    out, answers one twice, answers another order, or gives an undecided verdict without a reason.
    """
    ids = [claim.id for claim in claims]
    if len(set(ids)) != len(ids):
        doubles = sorted({name for name in ids if ids.count(name) > 1})
        raise UsageError(f"Claim ids must be distinct, but {', '.join(doubles)} came twice.")
    if batch < 1:
        raise UsageError(f"batch must be at least 1, but is {batch}.")
    bounds = Limits() if limits is None else limits
    batches = [claims[start : start + batch] for start in range(0, len(claims), batch)]

    async def one(part: Sequence[Claim]) -> Sequence[Verdict]:
        verdicts = await verifier.verify(part, limits=bounds)
        check_answers(part, verdicts)
        return verdicts

    found = await each(one, batches, limit=width)
    return [verdict for part in found for verdict in part]


def check_answers(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> None:
    """Raise `EngineError` unless there is one well-formed verdict per claim, in order."""
    asked = [claim.id for claim in claims]
    answered = [verdict.claim_id for verdict in verdicts]
    if asked != answered:
        raise EngineError(
            f"The verifier was asked about {asked} and answered about {answered}; "
            "it must give one verdict per claim, in order."
        )
    for verdict in verdicts:
        if verdict.holds is None and not verdict.reason:
            raise EngineError(
                f"The verifier left {verdict.claim_id!r} undecided without saying why."
            )
