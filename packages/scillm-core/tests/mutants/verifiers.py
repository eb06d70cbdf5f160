"""Verifiers that each break one promise, and the tests of the kit that must catch them."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from scillm.records import Claim, Verdict, evolve
from scillm.testing import VerifierConformance


class Parity:
    """Decides statements {"even": n} for whole numbers n; the number 7 it leaves open."""

    async def verify(self, claims, /, *, limits):
        await anyio.lowlevel.checkpoint()
        return [self.judge(claim) for claim in claims]

    def judge(self, claim):
        said = claim.statement
        if not isinstance(said, dict) or type(said.get("even")) is not int:
            reason = "the statement is not of the form {'even': n}"
            return Verdict(claim_id=claim.id, holds=None, status="malformed", reason=reason)
        if said["even"] == 7:
            return Verdict(claim_id=claim.id, holds=None, status="open", reason="out of luck")
        holds = said["even"] % 2 == 0
        return Verdict(
            claim_id=claim.id, holds=holds, status="checked", evidence={"rest": said["even"] % 2}
        )


class Mutant(VerifierConformance):
    Verifier = Parity

    @pytest.fixture
    def verifier(self):
        return self.Verifier()

    @pytest.fixture
    def true_claim(self):
        return Claim(id="two", statement={"even": 2})

    @pytest.fixture
    def false_claim(self):
        return Claim(id="three", statement={"even": 3})

    @pytest.fixture
    def undecidable_claim(self):
        return Claim(id="seven", statement={"even": 7})


class TestSound(Mutant):
    """The control."""

    caught_by = ()


class TestOutOfOrder(Mutant):
    """Answers the claims that hold first."""

    caught_by = (
        "test_verdicts_come_in_the_order_of_the_claims",
        "test_malformed_claim_spoils_no_other",
    )

    class Verifier(Parity):
        async def verify(self, claims, /, *, limits):
            verdicts = await super().verify(claims, limits=limits)
            return sorted(verdicts, key=lambda verdict: verdict.holds is not True)


class TestRightIdsWrongOrder(Mutant):
    """Answers last claim first, under the names of the first."""

    caught_by = (
        "test_verdicts_come_in_the_order_of_the_claims",
        "test_malformed_claim_spoils_no_other",
        "test_verdicts_are_stable",
    )

    class Verifier(Parity):
        async def verify(self, claims, /, *, limits):
            verdicts = await super().verify(claims, limits=limits)
            return [
                evolve(verdict, claim_id=claim.id)
                for claim, verdict in zip(claims, reversed(verdicts), strict=True)
            ]


class TestOmits(Mutant):
    """Leaves out what it does not understand."""

    caught_by = ("test_malformed_claim_spoils_no_other",)

    class Verifier(Parity):
        async def verify(self, claims, /, *, limits):
            verdicts = await super().verify(claims, limits=limits)
            return [verdict for verdict in verdicts if verdict.status != "malformed"]


class TestCrashes(Mutant):
    """Falls over a claim that it does not understand."""

    caught_by = ("test_malformed_claim_spoils_no_other",)

    class Verifier(Parity):
        def judge(self, claim):
            _ = claim.statement["even"] % 2
            return super().judge(claim)


class TestYes(Mutant):
    """Says yes to everything."""

    caught_by = (
        "test_false_claim_does_not_hold",
        "test_undecided_says_why",
        "test_verdicts_come_in_the_order_of_the_claims",
        "test_malformed_claim_spoils_no_other",
        "test_verdicts_are_stable",
    )

    class Verifier(Parity):
        def judge(self, claim):
            return Verdict(claim_id=claim.id, holds=True, status="checked")


class TestSilent(Mutant):
    """Leaves claims open without a reason."""

    caught_by = (
        "test_undecided_says_why",
        "test_malformed_claim_spoils_no_other",
    )

    class Verifier(Parity):
        def judge(self, claim):
            return evolve(super().judge(claim), reason="")


class TestTires(Mutant):
    """Gives another verdict the second time it is asked."""

    caught_at_least_by = ("test_verdicts_are_stable",)

    class Verifier(Parity):
        asked = 0

        async def verify(self, claims, /, *, limits):
            self.asked += 1
            verdicts = await super().verify(claims, limits=limits)
            if self.asked == 1:
                return verdicts
            return [evolve(v, holds=None, reason="tired") for v in verdicts]


class TestEvidence(Mutant):
    """Hands out evidence that is no JSON."""

    caught_at_least_by = ("test_true_claim_holds",)

    class Verifier(Parity):
        def judge(self, claim):
            return evolve(super().judge(claim), evidence={"proof": object()})


class TestShielded(Mutant):
    """Tidies up for more than a second when it is cancelled."""

    stops_within_s = 1.0
    caught_by = ("test_cancelled_verification_ends_promptly",)

    class Verifier(Parity):
        async def verify(self, claims, /, *, limits):
            try:
                await anyio.sleep(0.02)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1.1)
                raise
            return await super().verify(claims, limits=limits)
