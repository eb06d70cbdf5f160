"""The client scenarios of MCP's own conformance suite that apply to us, with the real suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.codex_cli import tools_folder

pytestmark = pytest.mark.deep

PACKAGES = ("node@22.23.3", "@modelcontextprotocol/conformance@0.2.0-alpha.12")
FOLDER = tools_folder() / "mcp-conformance-0.2.0-alpha.12"
CLIENT = str(Path(__file__).with_name("mcp_conformance_client.py"))

SCENARIOS = (
    ("initialize", "2025-11-25"),
    ("tools_call", "2025-11-25"),
    ("sse-retry", "2025-11-25"),
    ("tools_call", "2026-07-28"),
    ("request-metadata", "2026-07-28"),
    ("http-standard-headers", "2026-07-28"),
    ("http-custom-headers", "2026-07-28"),
    ("http-invalid-tool-headers", "2026-07-28"),
    ("json-schema-ref-no-deref", "2026-07-28"),
    ("json-schema-2020-12-preservation", "2026-07-28"),
)
NOT_FOR_US = {
    "elicitation-sep1034-client-defaults": "an agent has nobody to ask, and does not offer to",
    "sep-2322-client-request-state": "its rounds begin with elicitation, which is not offered",
    "auth/": "OAuth is not spoken: a server's token is given as a header (McpTarget.headers)",
    "sep-2640-": "an extension about skills; resources are not fetched",
}
"""The client scenarios of the suite that are not run, by name or beginning, and why."""


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder of the suite's commands, installed once outside of git."""
    commands = FOLDER / "node_modules" / ".bin"
    if (commands / "conformance").exists():
        return commands
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed here")
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(FOLDER), *PACKAGES],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return commands


def conformance(suite: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(suite / "node"), str((suite / "conformance").resolve()), *arguments],
        env={**os.environ, "PATH": f"{suite}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize(("scenario", "version"), SCENARIOS)
def test_the_suites_scenario_passes(scenario: str, version: str, suite: Path) -> None:
    """What MCP's own suite asks of a client of tools, we do, in the eras it has it for."""
    command = f"{sys.executable} {CLIENT} auto"
    ran = conformance(
        suite, "client", "--command", command, "--scenario", scenario, "--spec-version", version
    )

    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "OVERALL: PASSED" in ran.stdout + ran.stderr


def test_every_scenario_is_run_or_said_not_to_apply(suite: Path) -> None:
    """No client scenario of the suite is left out without a reason."""
    listed = conformance(suite, "list").stdout.partition("Client scenarios")[2]
    names = {
        line.split()[1]
        for line in listed.partition("Authorization server")[0].splitlines()
        if line.startswith("  - ")
    }
    run = {name for name, _version in SCENARIOS}
    silent = {name for name in names - run if not name.startswith(tuple(NOT_FOR_US))}

    assert run <= names
    assert silent == set()
