"""Fixtures and rules for every test of the workspace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import settings
from support.faulty import FaultyServer
from support.loopback import loopback_only
from support.tinymodel import TinyModelUnavailableError, serve_tiny_model
from support.wasm_cell import cells_of_run, with_cell

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from support.spread import Spread
    from xdist.remote import Producer

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    with loopback_only():
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread | None:
    """With `--dist loadfile`, say ourselves what belongs into one process."""
    if config.getvalue("dist") != "loadfile":
        return None
    from support.spread import Spread

    return Spread(config, log)


def _held_to_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a skip is a failure: what a machine lacks, `dev.py` installs.

    Only the conformance kit may skip: there a skip says that a plugin does not offer a power.
    """
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    path, line, reason = cast("tuple[str, int, str]", report.longrepr)
    if "/scillm/testing/" not in path.replace(os.sep, "/"):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped, which CI does not allow. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold tests to the rule."""
    report = yield
    _held_to_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold whole modules to it."""
    report = yield
    _held_to_in_ci(report)
    return report


@pytest.fixture
def faulty_server() -> Iterator[FaultyServer]:
    """A strict chat server on loopback that can be told to misbehave; no key is asked for."""
    with FaultyServer() as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of llama.cpp serving a real, tiny model named `tiny`.

    At temperature 0 it answers `support.tinymodel.GREEDY_TEXT`.
    """
    try:
        with serve_tiny_model(tmp_path_factory.mktemp("tiny-model")) as base_url:
            yield base_url
    except TinyModelUnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def wasm_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of level wasm's interpreter with the interpreter in it."""
    return with_cell(cells_of_run(tmp_path_factory))
