"""`scillm config`: every setting, its value and its source, with secrets masked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-sentinel-51f2"

HOOKS = """
from scillm.records import Setting

class Plugin:
    def scillm_settings(self):
        return [
            Setting(name="greet_token", env=("GREET_TOKEN",), doc="Token.", secret=True),
            Setting(name="greet_times", env=("GREET_TIMES",), doc="Times.", kind="int", default=3),
        ]
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_hooks(here: Installation, source: str) -> None:
    here.add(
        "scillm-greet",
        points={"scillm.hooks": {"greet": "greet_hooks:Plugin"}},
        modules={"greet_hooks": source},
    )


def rows_of(out: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(out)}


def test_every_setting_has_value_and_source(here: Installation) -> None:
    """The source is the variable that was set, or `default`; JSON also says what it means."""
    done = here.run("config", "--json", env={"LITELLM_MODEL": "echo/any"})

    rows = rows_of(done.out)
    assert done.code == 0
    model, timeout = rows["default_model"], rows["timeout_s"]
    assert (model["value"], model["source"]) == ("echo/any", "LITELLM_MODEL")
    assert (timeout["value"], timeout["source"]) == (600.0, "default")
    assert all(row["doc"] for row in rows.values())


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_secrets_are_masked(here: Installation, options: list[str]) -> None:
    """No form of the report shows a secret, of the core or of a plugin; it shows that it is set."""
    add_hooks(here, HOOKS)
    env = {"OPENAI_API_KEY": SECRET, "GREET_TOKEN": SECRET}

    done = here.run("config", *options, env=env)

    assert done.code == 0
    assert SECRET not in done.out + done.err
    assert done.out.count("***") == 2


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_credentials_inside_a_url_are_masked(here: Installation, options: list[str]) -> None:
    """A password in a base URL is masked, the host stays readable."""
    env = {"OPENAI_BASE_URL": f"https://user:{SECRET}@models.test/v1"}

    done = here.run("config", *options, env=env)

    assert "https://***@models.test/v1" in done.out
    assert SECRET not in done.out


def test_an_unset_secret_is_not_shown_as_set(here: Installation) -> None:
    """A mask means that there is something behind it."""
    done = here.run("config")

    line = next(line for line in done.out.splitlines() if line.startswith("openai_api_key"))
    assert line.split(maxsplit=1)[1].split("  ")[0] == "(not set)"


def test_a_switch_is_the_source_of_what_it_leaves_out(here: Installation) -> None:
    """A plugin left out by its own switch is listed with that switch as the source."""
    env = {"SCILLM_PLUGINS_DISABLE": "left", "SCILLM_ENABLE_RIGHT": "0"}

    row = rows_of(here.run("config", "--json", env=env).out)["plugins_disable"]

    assert row["value"] == ["left", "right"]
    assert row["source"] == "SCILLM_PLUGINS_DISABLE, SCILLM_ENABLE_RIGHT"


@pytest.mark.parametrize("variable", ["SCILLM_TIMEOUT_S", "GREET_TIMES"])
def test_a_wrong_value_is_wrong_usage(here: Installation, variable: str) -> None:
    """A value that cannot be used ends with 2 and names the variable and what came."""
    add_hooks(here, HOOKS)

    done = here.run("config", env={variable: "soon"})

    assert (done.code, done.out) == (2, "")
    assert variable in done.err
    assert "'soon'" in done.err
    assert "Traceback" not in done.err


def test_a_broken_hook_plugin_is_told_and_the_rest_is_shown(here: Installation) -> None:
    """A plugin whose settings cannot be asked for costs one line on stderr, nothing else."""
    add_hooks(here, "class Plugin:\n    def scillm_settings(self):\n        raise ValueError('no')")

    done = here.run("config")

    assert done.code == 0
    assert "default_model" in done.out
    assert done.err == "Warning: plugin greet failed in scillm_settings: ValueError: no\n"
