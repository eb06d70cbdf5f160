"""CodeWorld keeps what the core's conformance suites ask of every verifier and every plugin."""

from __future__ import annotations

import pytest
from scillm.records import Claim, Limits
from scillm.testing import PluginConformance, VerifierConformance
from scillm_codeworld.verifier import CodeVerifier

CODE = "def solve(x): return x * x"


class TestCodeVerifier(VerifierConformance):
    """On asyncio and trio: one verdict per claim, in order, never without a reason."""

    @pytest.fixture
    def verifier(self):
        return CodeVerifier()

    @pytest.fixture
    def limits(self):
        return Limits(time_s=2.0)

    @pytest.fixture
    def true_claim(self):
        return Claim(id="true", statement={"code": CODE, "inputs": [3], "expected": [9]})

    @pytest.fixture
    def false_claim(self):
        return Claim(id="false", statement={"code": CODE, "inputs": [3], "expected": [8]})

    @pytest.fixture
    def undecidable_claim(self):
        loop = "def solve(x):\n    while True: pass"
        return Claim(id="open", statement={"code": loop, "inputs": [3], "expected": [9]})


class TestDistribution(PluginConformance):
    """Installing the distribution promises what its metadata says."""

    @pytest.fixture
    def distribution(self):
        return "scillm-codeworld"
