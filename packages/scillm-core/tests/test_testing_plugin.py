"""PluginConformance passes a sound distribution and catches careless ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

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


def without(key: str, **changes: str) -> Mapping[str, str]:
    return {**{k: v for k, v in HEADERS.items() if k != key}, **changes}


def careless(name: str, act: str) -> Plugin:
    """A plugin that does something else while it is imported."""
    caught = frozenset({"test_importing_does_nothing_else"})
    return Plugin(name=name, source=f"{act}\n{SOUND}", caught_by=caught)


def offering(name: str, *caught_by: str, points: str = POINTS, source: str = SOUND) -> Plugin:
    return Plugin(name=name, points=points, source=source, caught_by=frozenset(caught_by))


NOT_LOADABLE = ("test_every_offer_loads", "test_providers_take_an_endpoint_and_a_host")
HOOKED = "[scillm.hooks]\n{name} = {package}.provider:Plugin\n"
PLUGINS: Sequence[Plugin] = (
    Plugin(name="sound"),
    Plugin(name="sound-with-hook", points=HOOKED, source="class Plugin:\n def scillm_checks(self): ..."),
    careless("writes-environment", "import os; os.environ['CARELESS'] = '1'"),
    careless("starts-thread", "import threading; threading.Thread(target=input, daemon=True).start()"),
    careless("opens-socket", "import socket; socket.socket().bind(('127.0.0.1', 0))"),
    careless("prints", "print('Welcome!')"),
    careless("warns", "import warnings; warnings.warn('old', DeprecationWarning)"),
    careless("starts-process", "import subprocess; subprocess.run(['true'])"),
    careless("configures-logging", "import logging; logging.basicConfig()"),
    careless("writes-file", "import os; open(os.devnull, 'w').close()"),
    offering("typo-in-group", "test_offers_only_in_groups_that_exist", points=POINTS + "[scillm.provider]\na = b:c\n"),
    offering("wrong-module", *NOT_LOADABLE, "test_importing_does_nothing_else", points="[scillm.providers]\nx = {package}.nowhere:Plugin\n"),
    offering("wrong-name", *NOT_LOADABLE, points="[scillm.providers]\nx = {package}.provider:Plugins\n"),
    offering("wrong-shape", "test_every_offer_loads", source="class Plugin:\n def __init__(self, endpoint, host): ..."),
    offering("wrong-arguments", "test_providers_take_an_endpoint_and_a_host", source="class Plugin:\n async def complete(self, request, /): ..."),
    offering("taken-name", "test_names_are_its_own", points="[scillm.providers]\necho = {package}.provider:Plugin\n"),
    offering("no-hook", "test_hooks_are_hooks_that_exist", points=HOOKED),
    offering("unknown-hook", "test_hooks_are_hooks_that_exist", points=HOOKED, source="class Plugin:\n def scillm_check(self): ..."),
    Plugin(name="untyped", typed=False, caught_by=frozenset({"test_ships_its_types"})),
    Plugin(name="unlicensed", headers=without("License-Expression"), caught_by=frozenset({"test_says_what_it_is"})),
    Plugin(name="no-core", headers=without("Requires-Dist"), caught_by=frozenset({"test_depends_on_a_bounded_core"})),
    Plugin(name="no-upper-bound", headers={**HEADERS, "Requires-Dist": "scillm-core>=0.1"}, caught_by=frozenset({"test_depends_on_a_bounded_core"})),
    Plugin(name="core-in-extra-only", headers={**HEADERS, "Requires-Dist": 'scillm-core>=0.1,<0.2; extra == "x"'}, caught_by=frozenset({"test_depends_on_a_bounded_core"})),
)  # fmt: skip


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """By package: the names of the tests that failed when every plugin's suite was run."""
    folder = tmp_path_factory.mktemp("plugins")
    site = folder / "site"
    site.mkdir()
    for plugin in PLUGINS:
        plugin.install(site)
    suites = "".join(plugin.suite() for plugin in PLUGINS)
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
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        broken = found.setdefault(case.attrib["classname"].rpartition("Test_")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            broken.add(case.attrib["name"])
    return found


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_careless_plugin_fails_the_right_test(
    failures: Mapping[str, set[str]], plugin: Plugin
) -> None:
    """A distribution that breaks one promise fails that promise's test, and a sound one none."""
    assert failures[plugin.package] == plugin.caught_by


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
