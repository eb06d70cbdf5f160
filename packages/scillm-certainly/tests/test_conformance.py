"""Certainly keeps what the core's conformance suites ask of every verifier and every plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scillm.records import Claim, Limits
from scillm.testing import PluginConformance, VerifierConformance
from scillm_certainly.verifier import LeanVerifier

if TYPE_CHECKING:
    from scillm_certainly.pool.resident import Resident


class TestLeanVerifier(VerifierConformance):
    """On asyncio and trio: one verdict per claim, in order, never without a reason."""

    @pytest.fixture
    def verifier(self, lean: Resident) -> LeanVerifier:
        return LeanVerifier(lean)

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(time_s=60.0)

    @pytest.fixture
    def true_claim(self) -> Claim:
        return Claim(id="true", statement="theorem t (a b : Nat) : a + b = b + a := by omega")

    @pytest.fixture
    def false_claim(self) -> Claim:
        return Claim(id="false", statement={"code": "theorem t (a b : Nat) : a = b := by omega"})

    @pytest.fixture
    def undecidable_claim(self) -> Claim:
        return Claim(id="open", statement="import Mathlib\ntheorem t : True := trivial")


class TestDistribution(PluginConformance):
    """Installing the distribution promises what its metadata says."""

    @pytest.fixture
    def distribution(self) -> str:
        return "scillm-certainly"
