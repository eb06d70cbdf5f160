"""`scillm codex` as people type it, and the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from scillm_codex.sidecar.binary import find_binary, version_number
from scillm_codex.sidecar.home import Upstream, make_home
from support.codex_cli import codex_root, need_codex
from support.codex_service import KEY, CodexService, message, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture(scope="module")
def service() -> Iterator[CodexService]:
    with CodexService().running_here() as running:
        yield running


def scillm(root: Path, *arguments: str, **env: str) -> Any:
    """The command with an environment of its own."""
    return subprocess.run(
        [sys.executable, "-m", "scillm", "codex", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "SCILLM_CODEX_HOME": str(root / "codex"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def rows(done: Any) -> dict[str, Any]:
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_doctor_tries_everything(service: CodexService) -> None:
    """With a working upstream every check is ok, and the login, unused, is shown as not run."""

    def script(body: Mapping[str, Any]) -> Any:
        shape = (body.get("text") or {}).get("format")
        if shape and sample(shape["schema"]) == {"best": "A"}:
            return [message('{"best": "A"}')]
        return [message("pong")]

    service.script = script
    try:
        with codex_root() as root:
            done = scillm(
                root,
                "doctor",
                "--json",
                "-m",
                "fake-plain",
                SCILLM_CODEX_BIN=str(need_codex()),
                SCILLM_CODEX_UPSTREAM=service.base_url,
                SCILLM_CODEX_UPSTREAM_KEY=KEY,
            )
    finally:
        service.script = None

    found = rows(done)
    assert done.returncode == 0, done.stdout
    assert found.pop("login")["status"] == "not run"
    assert {name: check["status"] for name, check in found.items()} == {
        "binary": "ok",
        "home": "ok",
        "config": "ok",
        "sandbox helper": "ok",
        "handshake": "ok",
        "models": "ok",
        "chat": "ok",
        "JSON judge": "ok",
    }
    assert KEY not in done.stdout + done.stderr


def test_the_doctor_fails_on_a_login_that_codex_calls_good(service: CodexService) -> None:
    """`{}` is a login for `codex login status`; the doctor fails, and asks no model with it."""
    with codex_root() as root:
        (root / ".codex").mkdir()
        (root / ".codex" / "auth.json").write_text("{}")
        done = scillm(root, "doctor", "--json", SCILLM_CODEX_BIN=str(need_codex()))

    found = rows(done)
    assert done.returncode == 1
    assert found["login"]["ok"] is False
    assert found["handshake"]["ok"] is True
    assert (found["chat"]["ok"], found["JSON judge"]["ok"]) == (None, None)


def test_without_a_binary_the_doctor_names_both_ways_to_get_one() -> None:
    """Everything after it is not run, rather than passed."""
    with codex_root() as root:
        done = scillm(root, "doctor", "--json", PATH="/nonexistent")

    found = rows(done)
    assert done.returncode == 1
    assert "npm install -g @openai/codex" in found["binary"]["detail"]
    assert "pip install openai-codex" in found["binary"]["detail"]
    assert all(found[name]["ok"] is None for name in ("home", "config", "handshake", "chat"))


def test_an_open_address_needs_a_key() -> None:
    """The sidecar speaks with the user's login; nobody else may use it."""
    with codex_root() as root:
        done = scillm(
            root, "serve", "--host", "0.0.0.0", "--port", "0", SCILLM_CODEX_BIN=str(need_codex())
        )

    assert done.returncode == 2
    assert "0.0.0.0" in done.stderr
    assert "SCILLM_CODEX_SIDECAR_KEY" in done.stderr


@pytest.mark.parametrize("option", [("--turn-s", "-1"), ("--width", "0")])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    """A sidecar that could answer nothing does not start."""
    done = scillm(tmp_path, "serve", "--echo", "--port", "0", *option)

    assert done.returncode == 2
    assert option[0] in done.stderr


def test_each_command_says_what_it_is_for(tmp_path: Path) -> None:
    """`scillm --help` tells the two commands of this package apart, in their own first words."""
    from scillm_codex.agent.command import command as mini_agent
    from scillm_codex.command import command as codex

    done = subprocess.run(
        [sys.executable, "-m", "scillm", "--help"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = " ".join(done.stdout.split())

    for command in (codex, mini_agent):
        assert command.help is not None
        assert f"{command.name} {command.help}" in told


def test_a_home_that_cannot_be_leaves_the_rest_out(tmp_path: Path) -> None:
    """The doctor shows every check, and those it did not come to as not run."""
    done = scillm(
        tmp_path, "doctor", "--json", SCILLM_CODEX_BIN=str(need_codex()),
        SCILLM_CODEX_HOME="/tmp/scillm-codex",
    )  # fmt: skip

    found = rows(done)
    assert (done.returncode, found["home"]["ok"]) == (1, False)
    left = ("config", "sandbox helper", "handshake", "models", "chat", "JSON judge")
    assert [found[name]["ok"] for name in left] == [None] * len(left)


def test_a_home_is_made_anew_without_a_moment_without_config() -> None:
    """A Codex that starts meanwhile never reads an empty home, in which it had its shell."""
    binary = find_binary(need_codex()).path
    upstream = Upstream(base_url="http://127.0.0.1:9")
    missing: list[str] = []
    over = threading.Event()
    with codex_root() as root:
        config = make_home(root, "chat", upstream=upstream, binary=binary) / "config.toml"

        def look() -> None:
            while not over.is_set():
                if "shell_tool = false" not in config.read_text():
                    missing.append("the shell is on")

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for _ in range(3):
                make_home(root, "chat", upstream=upstream, binary=binary)
        finally:
            over.set()
            looking.join()
        left = sorted(path.name for path in config.parent.glob("c*"))

    assert missing == []
    assert left == ["config.toml"]


def test_a_home_below_tmp_is_refused(tmp_path: Path) -> None:
    """Codex makes no helper programs below /tmp; the error says so before it fails."""
    done = scillm(
        tmp_path,
        "serve",
        "--port",
        "0",
        SCILLM_CODEX_BIN=str(need_codex()),
        SCILLM_CODEX_HOME="/tmp/scillm-codex",
    )

    assert done.returncode == 2
    assert "SCILLM_CODEX_HOME" in done.stderr


def test_a_work_folder_that_holds_the_login_is_refused() -> None:
    """An agent that may read its own home could read the login."""
    with codex_root() as root:
        done = scillm(
            root,
            "serve",
            "--port",
            "0",
            "--profile",
            "agent",
            "--cwd",
            str(root),
            SCILLM_CODEX_BIN=str(need_codex()),
        )

    assert done.returncode == 2
    assert "Work elsewhere" in done.stderr


def test_the_binary_behind_npms_shim_is_found() -> None:
    """The shim costs a node process per start; the platform's binary is run directly."""
    found = find_binary(None, path=str(need_codex().parent))

    assert found.source == "PATH"
    assert found.path.parent.name == "bin"
    assert "vendor" in found.path.parts


@pytest.mark.parametrize(
    ("text", "number"),
    [("codex-cli 0.169.0", (0, 169, 0)), ("0.170.0-alpha.2", (0, 170, 0)), ("codex", None)],
)
def test_versions_are_read(text: str, number: tuple[int, int, int] | None) -> None:
    """`codex --version` and pre-releases."""
    assert version_number(text) == number
