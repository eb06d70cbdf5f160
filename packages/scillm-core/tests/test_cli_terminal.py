"""Terminal or pipe: colour and folding for people, plain whole lines for programs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

ESCAPE = "\x1b["
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")
ANY_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

LONG = "because-of-a-very-long-word-" * 12


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_broken(here: Installation, message: str) -> None:
    here.add(
        "scillm-broken",
        points={"scillm.providers": {"broken": "broken_module:Provider"}},
        modules={"broken_module": f"raise RuntimeError({message!r})"},
    )


@pytest.mark.parametrize("command", ["plugins", "doctor", "config"])
def test_a_terminal_gets_colour_and_a_pipe_none(here: Installation, command: str) -> None:
    """The same table is coloured on a terminal and has no escape sequence in a pipe."""
    seen, piped = here.on_terminal(command), here.run(command)

    assert COLOUR.search(seen.out)
    assert ESCAPE not in piped.out
    assert (seen.code, piped.code) == (0, 0)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_and_dumb_terminals_get_no_colour(here: Installation, env: dict[str, str]) -> None:
    """Under NO_COLOR, and on a terminal that can do nothing, no text is coloured or bold."""
    seen = here.on_terminal("plugins", env=env)

    assert not re.search(r"\x1b\[[0-9;]*m", seen.out)
    assert "echo" in seen.out


def test_json_is_plain_on_a_terminal(here: Installation) -> None:
    """`--json` is the same document on a terminal and in a pipe."""
    seen, piped = here.on_terminal("config", "--json"), here.run("config", "--json")

    assert seen.out == piped.out


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("command", ["plugins", "doctor"])
def test_a_terminal_folds_and_cuts_nothing(here: Installation, columns: int, command: str) -> None:
    """However narrow the terminal, a long reason is all there and no line is too wide."""
    add_broken(here, LONG)

    seen = here.on_terminal(command, columns=columns)

    lines = ANY_ESCAPE.sub("", seen.out).split("\r")[-1].splitlines()
    assert max(map(len, lines)) <= columns
    column = "".join(re.sub(r"\s", "", line) for line in lines)
    assert LONG in column
    assert "…" not in column.replace("SCILLM_ENABLE_…", "")


def test_a_terminal_shows_that_work_goes_on(here: Installation) -> None:
    """While an answer is awaited a terminal says for whom; a pipe hears nothing of it."""
    args = ("chat", "-m", "echo/any", "hello")

    seen, piped = here.on_terminal(*args), here.run(*args)

    assert "waiting for echo/any" in seen.out
    assert ANY_ESCAPE.sub("", seen.out).endswith("hello\n")
    assert piped.err == ""


def test_an_error_is_one_message_on_a_terminal(here: Installation) -> None:
    """An error is a coloured word and a sentence, not a traceback."""
    seen = here.on_terminal("chat", "hello", columns=200)

    assert seen.code == 2
    assert COLOUR.search(seen.out)
    assert "Error: No model given." in ANY_ESCAPE.sub("", seen.out)


def test_a_question_is_asked_for_on_a_terminal(here: Installation) -> None:
    """`scillm chat` without a text does not wait for a person to guess that it reads stdin."""
    seen = here.on_terminal("chat", "-m", "echo/any", columns=200)

    assert seen.code == 2
    assert "No question given" in ANY_ESCAPE.sub("", seen.out)


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_an_answer_cannot_steer_the_terminal(here: Installation, options: list[str]) -> None:
    """Control characters in an answer are shown on a terminal and passed on unchanged in a pipe."""
    evil = "a\x1b]0;title\x07b"

    seen = here.on_terminal("chat", "-m", "echo/any", *options, evil)
    piped = here.run("chat", "-m", "echo/any", *options, evil)

    assert "a\\x1b]0;title\\x07b" in seen.out
    assert "\x07" not in seen.out
    assert piped.out == f"{evil}\n"


def test_a_plugin_cannot_steer_the_terminal(here: Installation) -> None:
    """A reason with control characters and markup is shown as it is."""
    add_broken(here, "\x1b]0;title\x07 [red]not markup[/red]")

    seen, piped = here.on_terminal("plugins", columns=200), here.run("plugins")

    for out in (seen.out, piped.out):
        assert "\\x1b]0;title\\x07 [red]not markup[/red]" in out
        assert "\x07" not in out


def test_a_reader_that_leaves_is_no_error(here: Installation) -> None:
    """`scillm … | head` ends quietly, with the code shells report for a closed pipe."""
    with here.start("chat", "-m", "echo/any", "x" * 100_000) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (141, "")


def test_an_encoding_without_a_character_does_not_end_a_command(here: Installation) -> None:
    """Where the encoding lacks a character, its escape is printed instead."""
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    done = here.run("chat", "-m", "echo/any", "Grüße", env=env)

    assert (done.code, done.out) == (0, "Gr\\xfc\\xdfe\n")
