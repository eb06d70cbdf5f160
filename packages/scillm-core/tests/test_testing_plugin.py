"""PluginConformance passes a sound distribution and catches careless ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from attrs import frozen
from scillm.testing import PluginConformance
from scillm.testing.quiet import import_watched


class TestCore(PluginConformance):
    """The core's own plugins keep the promises of a stranger's."""

    @pytest.fixture
    def distribution(self) -> str:
        return "scillm-core"


SOUND = """
class Plugin:
    def __init__(self, endpoint, host): ...
    async def complete(self, request, /): ...
"""
POINTS = "[scillm.providers]\n{name} = {package}.provider:Plugin\n"
HEADERS: Mapping[str, str] = {
    "Metadata-Version": "2.4",
    "Version": "0.1",
    "Summary": "A test.",
    "License-Expression": "MIT",
    "Requires-Python": ">=3.10",
    "Requires-Dist": "scillm-core>=0.1,<0.2",
}


@frozen(kw_only=True)
class Plugin:
    """One distribution to install, and the tests that must catch it."""

    name: str
    caught_by: frozenset[str] = frozenset()
    source: str = SOUND
    points: str = POINTS
    headers: Mapping[str, str] = HEADERS
    typed: bool = True

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    def install(self, site: Path) -> None:
        package = site / self.package
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "provider.py").write_text(self.source)
        if self.typed:
            (package / "py.typed").write_text("")
        about = site / f"{self.package}-0.1.dist-info"
        about.mkdir()
        lines = [f"Name: {self.name}", *(f"{key}: {value}" for key, value in self.headers.items())]
        (about / "METADATA").write_text("\n".join(lines) + "\n")
        points = self.points.format(name=self.name, package=self.package)
        (about / "entry_points.txt").write_text(points)

    def suite(self) -> str:
        return (
            f"class Test_{self.package}(PluginConformance):\n"
            "    @pytest.fixture\n"
            f"    def distribution(self): return {self.name!r}\n\n\n"
        )


def plugin(name: str, *caught_by: str, **changes: Any) -> Plugin:
    return Plugin(name=name, caught_by=frozenset(caught_by), **changes)


def without(key: str) -> Mapping[str, str]:
    return {name: value for name, value in HEADERS.items() if name != key}


IMPORTING = "test_importing_does_nothing_else"
LOADING = "test_every_offer_loads"
BUILDING = "test_providers_take_an_endpoint_and_a_host"
GROUPING = "test_offers_only_in_groups_that_exist"
NAMING = "test_names_are_its_own"
HOOKING = "test_hooks_are_hooks_that_exist"
BOUNDING = "test_depends_on_a_bounded_core"
TYPING = "test_ships_its_types"
SAYING = "test_says_what_it_is"

HOOKED = "[scillm.hooks]\n{name} = {package}.provider:Plugin\n"
NO_CORE = without("Requires-Dist")
NO_LICENCE = without("License-Expression")
UNBOUNDED = {**HEADERS, "Requires-Dist": "scillm-core>=0.1"}
OPTIONAL = {**HEADERS, "Requires-Dist": 'scillm-core>=0.1,<0.2; extra == "x"'}

# Name of the distribution, what its module does while it is imported, who must catch it.
CARELESS = (
    ("writes-environment", "import os; os.environ['CARELESS'] = '1'", IMPORTING),
    (
        "starts-thread",
        "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
        IMPORTING,
    ),
    ("opens-socket", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0))", IMPORTING),
    ("prints", "print('Welcome!')", IMPORTING),
    ("starts-process", "import subprocess; subprocess.run(['true'])", IMPORTING),
    ("configures-logging", "import logging; logging.basicConfig()", IMPORTING),
    ("writes-file", "import os; open(os.devnull, 'w').close()", IMPORTING),
    ("fails", "raise OSError('no disk')", IMPORTING, LOADING, BUILDING),
)
PLUGINS = (
    plugin("sound"),
    plugin("sound-hook", points=HOOKED, source="class Plugin:\n def scillm_checks(self): ..."),
    *(plugin(name, *caught, source=f"{act}\n{SOUND}") for name, act, *caught in CARELESS),
    plugin("typo-in-group", GROUPING, points=f"{POINTS}[scillm.provider]\na = b:c\n"),
    plugin("wrong-module", LOADING, BUILDING, IMPORTING, points=POINTS.replace("provider:", "no:")),
    plugin("wrong-name", LOADING, BUILDING, points=POINTS.replace(":Plugin", ":Plugins")),
    plugin("wrong-shape", LOADING, source=SOUND.replace("complete", "completes")),
    plugin("wrong-arguments", BUILDING, source=SOUND.replace("endpoint, host", "endpoint")),
    plugin("taken-name", NAMING, points=POINTS.replace("{name}", "echo")),
    plugin("no-hook", HOOKING, points=HOOKED),
    plugin("unknown-hook", HOOKING, points=HOOKED, source="class Plugin:\n def scillm_check(self): ..."),  # noqa: E501
    plugin("untyped", TYPING, typed=False),
    plugin("unlicensed", SAYING, headers=NO_LICENCE),
    plugin("no-core", BOUNDING, headers=NO_CORE),
    plugin("no-upper-bound", BOUNDING, headers=UNBOUNDED),
    plugin("core-in-extra-only", BOUNDING, headers=OPTIONAL),
)  # fmt: skip


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """By package: the names of the tests that failed when every plugin's suite was run."""
    folder = tmp_path_factory.mktemp("plugins")
    site = folder / "site"
    site.mkdir()
    for case in PLUGINS:
        case.install(site)
    suites = "".join(case.suite() for case in PLUGINS)
    (folder / "test_plugins.py").write_text(
        f"import pytest\nfrom scillm.testing import PluginConformance\n\n\n{suites}"
    )
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
            *("--junitxml=report.xml", "test_plugins.py"),
        ],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for row in ET.parse(folder / "report.xml").iter("testcase"):
        broken = found.setdefault(row.attrib["classname"].rpartition("Test_")[2], set())
        if row.find("failure") is not None or row.find("error") is not None:
            broken.add(row.attrib["name"])
    return found


@pytest.mark.parametrize("case", PLUGINS, ids=lambda case: case.name)
def test_a_careless_plugin_fails_the_right_test(
    failures: Mapping[str, set[str]], case: Plugin
) -> None:
    """A distribution that breaks one promise fails that promise's test, and a sound one none."""
    assert failures[case.package] == case.caught_by


def test_a_watched_import_tells_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of an import names each thing it did, so that its author can find it."""
    (tmp_path / "chatty.py").write_text("import os\nos.environ['CHATTY'] = '1'\nprint('hello')\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = import_watched(["chatty"])

    assert seen.failure == ""
    assert seen.acts == ["os.putenv b'CHATTY'", "printed 'hello'"]


def test_a_failed_import_shows_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that cannot be imported is reported with the line that failed."""
    (tmp_path / "broken_module.py").write_text("raise OSError('no disk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = import_watched(["broken_module"])

    assert "OSError: no disk" in seen.failure
