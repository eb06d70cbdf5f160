"""`scillm plugins`: what is installed and whether it works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

LONG = "because " * 100


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_provider(here: Installation, name: str, source: str) -> None:
    here.add(
        f"scillm-{name}",
        points={"scillm.providers": {name: f"{name}_module:Provider"}},
        modules={f"{name}_module": source},
    )


def test_a_sound_installation_is_all_ok(here: Installation) -> None:
    """With the core alone every plugin loads, and the exit code says so."""
    done = here.run("plugins", "--json")

    rows = json.loads(done.out)
    assert done.code == 0
    assert {row["status"] for row in rows} == {"ok"}
    assert {"name", "group", "distribution", "version", "status", "reason"} == set(rows[0])
    assert ("echo", "scillm.providers") in {(row["name"], row["group"]) for row in rows}


def test_a_broken_plugin_is_failed_with_its_reason(here: Installation) -> None:
    """A plugin whose import raises is listed as failed with the reason; the others stay ok."""
    add_provider(here, "broken", "import no_such_library")

    done = here.run("plugins", "--json")

    rows = {row["name"]: row for row in json.loads(done.out)}
    assert done.code == 1
    assert rows["broken"]["status"] == "failed"
    assert "No module named 'no_such_library'" in rows["broken"]["reason"]
    assert {row["status"] for name, row in rows.items() if name != "broken"} == {"ok"}


def test_a_plugin_of_the_wrong_shape_names_the_missing_method(here: Installation) -> None:
    """A provider class without `complete` is failed, and the method is named."""
    add_provider(here, "shapeless", "class Provider: pass")

    done = here.run("plugins")

    assert done.code == 1
    assert "has no method complete" in done.out


def test_a_conflict_names_both_distributions(here: Installation) -> None:
    """Two distributions with one name are both in conflict; switching one off frees the other."""
    source = "class Provider:\n    async def complete(self, request): ..."
    for name in ("scillm-left", "scillm-right"):
        here.add(
            name,
            points={"scillm.providers": {"twin": "twin_module:Provider"}},
            modules={"twin_module": source},
        )

    conflict = here.run("plugins", "--json")
    solved = here.run("plugins", "--json", env={"SCILLM_PLUGINS_DISABLE": "scillm-left"})

    twins = [row for row in json.loads(conflict.out) if row["name"] == "twin"]
    assert conflict.code == 1
    assert [row["status"] for row in twins] == ["conflict", "conflict"]
    assert all("scillm-left 1.0 and scillm-right 1.0" in row["reason"] for row in twins)
    after = {row["distribution"]: row["status"] for row in json.loads(solved.out)}
    assert (after["scillm-left"], after["scillm-right"], solved.code) == ("disabled", "ok", 0)


def test_a_long_reason_is_whole_in_a_pipe(here: Installation) -> None:
    """A pipe gets one line per plugin, and nothing of a long reason is cut off."""
    add_provider(here, "broken", f"raise RuntimeError({LONG!r} + '\\nsecond line')")

    done = here.run("plugins")

    line = next(line for line in done.out.splitlines() if line.startswith("broken "))
    assert LONG + "\\nsecond line" in line


def test_columns_line_up_in_a_pipe(here: Installation) -> None:
    """Plain text has a header, and every column begins where its title does."""
    lines = here.run("plugins").out.splitlines()

    start = lines[0].index("status")
    assert lines[0].split() == ["name", "group", "distribution", "version", "status", "reason"]
    assert {line[start:].split()[0] for line in lines[1:]} == {"ok"}


def test_a_printing_plugin_does_not_spoil_the_json(here: Installation) -> None:
    """What a plugin prints while it is imported goes to stderr."""
    source = "print('noise')\nclass Provider:\n    async def complete(self, request): ..."
    add_provider(here, "noisy", source)

    done = here.run("plugins", "--json")

    assert "noisy" in {row["name"] for row in json.loads(done.out)}
    assert done.err == "noise\n"


def test_an_unknown_option_is_wrong_usage(here: Installation) -> None:
    """A misspelt option ends with 2 and points to the help."""
    done = here.run("plugins", "--jsn")

    assert done.code == 2
    assert "--json" in done.err
