"""Every strategy of CodeWorld keeps what the core's suite asks of every strategy, in every mode."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import sys

import pytest
from scillm.errors import UsageError
from scillm.plugins.registry import Registry
from scillm.records import Outcome
from scillm.testing import StrategyConformance

MODES = {
    "uniform": ({}, {"generate": True}, {"cases": 3}, {"cases": None}),
    "baseline": ({},),
    "ucb": ({}, {"cases": None}, {"cases": 4, "bounds": (-1e6, 1e6)}),
    "thompson": ({}, {"cases": None, "kind": "timing"}),
    "halving": ({}, {"cases": None}, {"cases": 4}),
    "mcts": (
        {},
        {"separator": "0"},
        {"cases": 5, "backup": "max"},
        {"generate": True},
        {"generate": True, "depth": 0, "backup": "mean"},
    ),
    "ab": ({}, {"generate": True}),
    "evolve": ({}, {"generate": True}, {"generate": True, "islands": 1, "migrate_every": 1}),
    "race": ({}, {"cases": 4}, {"cases": 4, "gate": False, "stop": "all"}),
    "cascade": ({}, {"cases": 4}, {"cases": 4, "stages": [1, 1, 2], "thresholds": [0, 0.5]}),
}
FOREIGN = (
    {},
    {"generate": True, "rollouts": 20},
    {"generate": True, "rollouts": 20, "algorithm": "mcts"},
)


def built(name, parameters):
    """The strategy behind an entry point, as a user gets it."""
    return functools.partial(Registry().get("scillm.strategies", name), **parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        pytest.param(name, parameters, id=f"{name} {parameters}")
        for name, modes in MODES.items()
        for parameters in modes
    ],
)
class TestStrategies(StrategyConformance):
    """Pure, seeded, finite, and honest about what won."""

    @pytest.fixture
    def make_strategy(self, name, parameters):
        return built(name, parameters)


@pytest.mark.parametrize("parameters", FOREIGN, ids=str)
class TestTreeQuest(StrategyConformance):
    """treequest behind our protocol, where it is installed."""

    @pytest.fixture
    def make_strategy(self, parameters):
        pytest.importorskip("treequest")
        return built("treequest", parameters)


def test_every_registered_strategy_of_the_package_is_in_the_list():
    """No strategy is offered that was not put through the suite."""
    points = importlib.metadata.distribution("scillm-codeworld").entry_points
    offered = {point.name for point in points if point.group == "scillm.strategies"}

    assert offered == {*MODES, "treequest"}


ABSENT = """
import sys
sys.modules["treequest"] = None  # as if it were not installed
from scillm.plugins.registry import Registry
Registry().get("scillm.strategies", "treequest")(["a"])
"""


def test_without_treequest_the_error_says_how_to_get_it():
    """The strategy is listed, and using it names the extra and the Python it needs."""
    done = subprocess.run(
        [sys.executable, "-c", ABSENT], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "pip install 'scillm-codeworld[treequest]'" in done.stderr
    assert "Python 3.11" in done.stderr


def test_treequest_has_two_algorithms():
    """Anything else is named."""
    with pytest.raises(UsageError, match="algorithm must be one of ab, mcts"):
        built("treequest", {"algorithm": "bfs"})(["a"])


def test_treequest_never_hears_of_a_withdrawn_trial():
    """What it took up is what was told, and the arm is tried again."""
    pytest.importorskip("treequest")
    strategy = built("treequest", {"bounds": (0, 1)})(["a", "b"])
    strategy.tell(strategy.ask(), Outcome(score=None, withdrawn=True))
    while (trial := strategy.ask()) is not None:
        strategy.tell(trial, Outcome(score=0.5))

    assert strategy.report()["trials"] == strategy.report()["taken_up"] == 2
