"""The conformance kit catches what it says it catches: broken plugins fail the right test."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

MUTANTS = Path(__file__).parent / "mutants"
FILES = ("embeddings", "policies", "providers", "strategies", "verifiers")


def classes(file: str) -> Mapping[str, type]:
    members = runpy.run_path(str(MUTANTS / f"{file}.py"), run_name=f"mutants_{file}")
    return {name: value for name, value in members.items() if name.startswith("Test")}


CASES = [(file, name) for file in FILES for name in classes(file)]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], set[str]]:
    """By file and class: the names of the tests that failed when the mutants were run."""
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    report = folder / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"),
            *("-c", str(folder / "pytest.ini"), f"--rootdir={MUTANTS}", "--tb=no"),
            *("-p", "unshrunk", "--import-mode=importlib", f"--junitxml={report}"),
            *(str(MUTANTS / f"{file}.py") for file in FILES),
        ],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))},
            "PYTHONPATH": str(MUTANTS),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[tuple[str, str], set[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        file, name = case.attrib["classname"].rsplit(".", 2)[-2:]
        broken = found.setdefault((file, name), set())
        if case.find("failure") is not None or case.find("error") is not None:
            broken.add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.parametrize(("file", "name"), CASES)
def test_a_broken_plugin_fails_the_right_test(
    failures: Mapping[tuple[str, str], set[str]], file: str, name: str
) -> None:
    """A plugin that breaks a promise fails the test of that promise; a sound one fails none."""
    mutant = classes(file)[name]
    failed = failures[file, name]

    if hasattr(mutant, "caught_by"):
        assert failed == set(mutant.caught_by)
    else:
        assert failed >= set(mutant.caught_at_least_by)
