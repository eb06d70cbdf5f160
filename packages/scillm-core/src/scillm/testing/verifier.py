"""The conformance suite for verifiers: give it `verifier`, `true_claim` and `false_claim`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import anyio
import pytest

from scillm.protocols import Verifier
from scillm.records import Claim, Json, Limits, Verdict, evolve
from scillm.testing.answers import check_plain_json

if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERN = (True, False, False, True, True, False)
"""Which of the two claims stands at each place; it equals neither its reverse nor any sorting."""


class VerifierConformance:
    """What every verifier promises, on asyncio and on trio.

    Inherit, and give three fixtures: `verifier`, a `true_claim` that it can prove and a
    `false_claim` that it can refute. With a fixture `undecidable_claim` its silence is checked too.

    Knobs: `malformed` (statements that mean nothing to it), `stops_within_s`, fixture `limits`.
    """

    pytestmark = pytest.mark.anyio

    malformed: ClassVar[Sequence[Json]] = (None, {}, [], "", 0, {"no such": "statement"}, "\x00")
    stops_within_s: ClassVar[float] = 5.0

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """The event loops every promise is kept on."""
        name: str = request.param
        return name

    @pytest.fixture
    def limits(self) -> Limits:
        """How much one call may use."""
        return Limits()

    @pytest.fixture
    def undecidable_claim(self) -> Claim | None:
        """A claim the verifier cannot decide, or None when there is none."""
        return None

    def test_is_a_verifier(self, verifier: Verifier) -> None:
        """It has the one method every verifier has."""
        assert isinstance(verifier, Verifier), (
            f"{type(verifier).__name__} has no method verify(claims, *, limits)."
        )

    async def test_true_claim_holds(
        self, verifier: Verifier, true_claim: Claim, limits: Limits
    ) -> None:
        """What is true is found to hold."""
        (verdict,) = await ask(verifier, [true_claim], limits)

        assert verdict.holds is True, f"`true_claim` must hold, but got {verdict}."

    async def test_false_claim_does_not_hold(
        self, verifier: Verifier, false_claim: Claim, limits: Limits
    ) -> None:
        """What is false is found not to hold."""
        (verdict,) = await ask(verifier, [false_claim], limits)

        assert verdict.holds is False, f"`false_claim` must not hold, but got {verdict}."

    async def test_undecided_says_why(
        self, verifier: Verifier, undecidable_claim: Claim | None, limits: Limits
    ) -> None:
        """What cannot be decided is neither true nor false, and the reason is given."""
        if undecidable_claim is None:
            pytest.skip("give a fixture `undecidable_claim` to have undecided verdicts checked")
        (verdict,) = await ask(verifier, [undecidable_claim], limits)

        assert verdict.holds is None, f"`undecidable_claim` must stay open, but got {verdict}."

    async def test_no_claims_no_verdicts(self, verifier: Verifier, limits: Limits) -> None:
        """Nothing asked, nothing answered."""
        verdicts = await verifier.verify([], limits=limits)

        assert list(verdicts) == []

    async def test_verdicts_come_in_the_order_of_the_claims(
        self, verifier: Verifier, true_claim: Claim, false_claim: Claim, limits: Limits
    ) -> None:
        """Many claims get one verdict each, in their order, the same as when asked alone."""
        claims = [
            evolve(true_claim if holds else false_claim, id=f"claim-{number}")
            for number, holds in enumerate(PATTERN)
        ]
        verdicts = await ask(verifier, claims, limits)

        assert [verdict.holds for verdict in verdicts] == list(PATTERN)

    @pytest.mark.parametrize("place", [0, 1, 2])
    async def test_malformed_claim_spoils_no_other(
        self,
        verifier: Verifier,
        true_claim: Claim,
        false_claim: Claim,
        limits: Limits,
        place: int,
    ) -> None:
        """A claim that means nothing never holds, says why, and spoils no other claim's verdict."""
        broken = [Claim(id=f"bad-{n}", statement=said) for n, said in enumerate(self.malformed)]
        good = [evolve(true_claim, id="good-true"), evolve(false_claim, id="good-false")]
        verdicts = await ask(verifier, [*good[:place], *broken, *good[place:]], limits)
        by_id = {verdict.claim_id: verdict for verdict in verdicts}

        assert by_id["good-true"].holds is True
        assert by_id["good-false"].holds is False
        for claim in broken:
            verdict = by_id[claim.id]
            assert verdict.holds is not True, f"{claim.statement!r} cannot hold, but got {verdict}."
            assert verdict.reason, f"The verdict on {claim.statement!r} must say why: {verdict}."

    async def test_verdicts_are_stable(
        self, verifier: Verifier, true_claim: Claim, false_claim: Claim, limits: Limits
    ) -> None:
        """Asked again, alone or at the same time as others, a claim gets the same verdict."""
        claims = [evolve(true_claim, id="t"), evolve(false_claim, id="f")]
        found: list[list[bool | None]] = []

        async def one() -> None:
            found.append([verdict.holds for verdict in await ask(verifier, claims, limits)])

        await one()
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)

        assert found == [[True, False]] * 3

    async def test_cancelled_verification_ends_promptly(
        self, verifier: Verifier, true_claim: Claim, limits: Limits
    ) -> None:
        """A cancelled verification ends at once, and the next one is done as usual."""
        started_s = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, verifier, [true_claim], limits)
            await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        took_s = anyio.current_time() - started_s
        (verdict,) = await ask(verifier, [true_claim], limits)

        assert took_s < self.stops_within_s, (
            f"A cancelled verification went on for {took_s:.1f} s; "
            f"{self.stops_within_s} s are allowed."
        )
        assert verdict.holds is True


async def ask(verifier: Verifier, claims: Sequence[Claim], limits: Limits) -> list[Verdict]:
    """The verdicts on `claims`; fails unless they are well formed, one per claim, in order."""
    verdicts = list(await verifier.verify(claims, limits=limits))
    for verdict in verdicts:
        assert isinstance(verdict, Verdict), f"A verdict is a records.Verdict, not {verdict!r}."
    asked = [claim.id for claim in claims]
    answered = [verdict.claim_id for verdict in verdicts]
    assert answered == asked, (
        f"A verifier gives one verdict per claim, in order. Asked: {asked}; answered: {answered}."
    )
    for verdict in verdicts:
        assert verdict.holds in (True, False, None), f"holds is True, False or None: {verdict}."
        assert verdict.status, f"A verdict has a status: {verdict}."
        assert verdict.holds is not None or verdict.reason, f"Undecided, and no reason: {verdict}."
        check_plain_json(dict(verdict.evidence), "Verdict.evidence")
    return verdicts
