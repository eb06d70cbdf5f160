"""The frame of the command line: help, versions, unknown and broken commands, missing libraries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

FINE = """
import click

@click.command()
def command():
    "Greet."
    click.echo("hello from a plugin")
    return 7
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_command(here: Installation, name: str, source: str, **more: str) -> None:
    here.add(
        f"scillm-{name}",
        points={"scillm.commands": {name: f"{name}_module:command"}},
        modules={f"{name}_module": source},
        **more,
    )


def test_help_lists_the_commands_of_the_core(here: Installation) -> None:
    """`--help` lists every command of the core with what it does."""
    done = here.run("--help")

    assert (done.code, done.err) == (0, "")
    listed = [line.split()[0] for line in done.out.partition("Commands:")[2].splitlines()[1:]]
    assert listed == ["batch", "chat", "config", "doctor", "plugins", "runs"]


def test_help_lists_a_plugins_command_without_importing_it(here: Installation) -> None:
    """`--help` shows a plugin's command and what its distribution says of itself, unimported."""
    mark = here.folder / "imported"
    add_command(here, "greet", f"open({str(mark)!r}, 'w').close()" + FINE, summary="Says hello.")

    helped = here.run("--help")
    imported_by_help = mark.exists()
    called = here.run("greet")

    assert "greet  Says hello. (scillm-greet)" in helped.out
    assert not imported_by_help
    assert (called.out, mark.exists()) == ("hello from a plugin\n", True)


def test_help_imports_no_command_module_and_no_http_library(here: Installation) -> None:
    """`--help` imports neither the core's own commands nor what they need."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-m", "scillm", "--help"],
        capture_output=True,
        encoding="utf-8",
        env=here.environ(),
        timeout=60,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert "scillm.cli.commands" in imported
    unwanted = {f"scillm.cli.{name}" for name in ("chat", "config", "doctor", "plugins", "runs")}
    assert not imported & {*unwanted, "httpx", "anyio", "pluggy", "cattrs", "rich"}


def test_help_of_one_command_does_not_import_the_others(here: Installation) -> None:
    """`scillm config --help` works beside a plugin whose import would fail."""
    add_command(here, "broken", "raise RuntimeError('kaput')")

    done = here.run("config", "--help")

    assert (done.code, done.err) == (0, "")
    assert "--json" in done.out


def test_the_exit_code_is_not_what_a_command_returns(here: Installation) -> None:
    """A plugin's command that returns a number has still succeeded."""
    add_command(here, "greet", FINE)

    done = here.run("greet")

    assert done.code == 0


def test_a_broken_command_breaks_only_itself(here: Installation) -> None:
    """A command that cannot be imported says why and what to do; the others go on working."""
    add_command(here, "broken", "raise RuntimeError('kaput')", version="2.5")

    broken, helped, fine = here.run("broken"), here.run("--help"), here.run("config")

    assert broken.code == 1
    assert "The command 'broken' of scillm-broken 2.5 cannot be imported" in broken.err
    assert "RuntimeError: kaput" in broken.err
    assert "SCILLM_PLUGINS_DISABLE=scillm-broken" in broken.err
    assert "Traceback" not in broken.err
    assert "broken" in helped.out
    assert (helped.code, fine.code) == (0, 0)


def test_a_command_that_is_no_click_command_is_refused(here: Installation) -> None:
    """An entry point that names something else is called what it is."""
    add_command(here, "odd", "command = 42")

    done = here.run("odd")

    assert done.code == 1
    assert "must be a click.Command, but odd_module:command is int" in done.err


def test_two_distributions_with_one_command_are_both_named(here: Installation) -> None:
    """A conflict names both distributions; switching one off, as the message says, solves it."""
    for name in ("scillm-left", "scillm-right"):
        here.add(
            name,
            points={"scillm.commands": {"greet": "greet_module:command"}},
            modules={"greet_module": FINE},
        )

    conflict = here.run("greet")
    solved = here.run("greet", env={"SCILLM_PLUGINS_DISABLE": "scillm-left"})

    assert conflict.code == 1
    assert "scillm-left 1.0" in conflict.err
    assert "scillm-right 1.0" in conflict.err
    assert (solved.code, solved.out) == (0, "hello from a plugin\n")


def test_a_switched_off_command_is_not_listed(here: Installation) -> None:
    """SCILLM_ENABLE_X=0 takes a command out of the help, and calling it is wrong usage."""
    add_command(here, "greet", FINE)
    off = {"SCILLM_ENABLE_GREET": "0"}

    helped, called = here.run("--help", env=off), here.run("greet", env=off)

    assert "greet" not in helped.out
    assert called.code == 2
    assert "switched off" in called.err


def test_help_works_while_a_setting_is_wrong(here: Installation) -> None:
    """A wrong setting does not take the help away that one needs to correct it."""
    done = here.run("--help", env={"SCILLM_TIMEOUT_S": "soon"})

    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("typed", ["plugin", "confg", "runz"])
def test_a_misspelt_command_is_answered_with_near_names(here: Installation, typed: str) -> None:
    """A misspelt command is wrong usage, and the right one is suggested."""
    done = here.run(typed)

    assert done.code == 2
    assert "Did you mean" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("typed", "distribution"),
    [
        ("codeworld", "scillm-codeworld"),
        ("certainly", "scillm-certainly"),
        ("chutes", "scillm-chutes"),
        ("codex", "scillm-codex"),
        ("mini-agent", "scillm-codex"),
    ],
)
def test_a_command_of_a_sibling_names_its_pip_line(
    here: Installation, typed: str, distribution: str
) -> None:
    """The command of a SciLLM package that is not installed is answered with its pip line."""
    done = here.run(typed)

    assert done.code == 2
    assert f"pip install {distribution}\n" in done.err


def test_version_names_core_siblings_and_interpreter(here: Installation) -> None:
    """`--version` is enough for a bug report."""
    add_command(here, "greet", FINE, version="3.2.1")

    done = here.run("--version")

    lines = done.out.splitlines()
    assert lines[0].startswith("scillm-core ")
    assert lines[1] == "scillm-greet 3.2.1"
    assert lines[2].endswith(".".join(map(str, sys.version_info[:3])))


@pytest.mark.parametrize("absent", ["click", "rich"])
def test_a_bare_core_says_how_to_get_the_command_line(tmp_path: Path, absent: str) -> None:
    """Without the extra `cli` the command names the missing library and the pip line."""
    done = Installation(tmp_path, without=[absent]).run("--help")

    assert done.code == 2
    assert f"needs {absent}, which is not installed" in done.err
    assert "pip install 'scillm-core[cli]'" in done.err
    assert "Traceback" not in done.err


def test_completion_offers_a_broken_plugins_command(here: Installation) -> None:
    """Pressing Tab imports no plugin, so a broken one cannot spoil it."""
    add_command(here, "confuse", "raise RuntimeError('kaput')", summary="Confuses.")
    asked = {"_SCILLM_COMPLETE": "bash_complete", "COMP_WORDS": "scillm conf", "COMP_CWORD": "1"}

    done = here.run(env=asked)

    assert (done.code, done.err) == (0, "")
    assert done.out.split() == ["plain,config", "plain,confuse"]
