"""Settings: read once, from one place, with a source for every value."""

from __future__ import annotations

from pathlib import Path

import pytest
from scillm.errors import SettingsError
from scillm.plugins.core_settings import CORE_SETTINGS
from scillm.plugins.settings import load
from scillm.records import Setting


def test_without_environment_every_setting_has_its_default():
    """Nothing needs to be set."""
    settings = load({})

    assert {row.source for row in settings.rows()} == {"default"}
    assert settings["timeout_s"] == 600.0
    assert settings["default_model"] is None
    assert isinstance(settings["runs_dir"], Path)
    assert len(settings) == len(CORE_SETTINGS)


def test_the_first_variable_that_is_set_wins_and_is_named():
    """Older names work; the documented one comes first; empty counts as not set."""
    environ = {"SCILLM_DEFAULT_MODEL": "", "SCILLM_MODEL": "a/b", "LITELLM_MODEL": "c/d"}

    row = next(row for row in load(environ).rows() if row.setting.name == "default_model")

    assert (row.value, row.source) == ("a/b", "SCILLM_MODEL")


def test_secrets_are_masked_in_what_is_shown_and_in_repr():
    """`scillm config` can be pasted into an issue."""
    settings = load({"OPENAI_API_KEY": "sk-secret"})
    row = next(row for row in settings.rows() if row.setting.name == "openai_api_key")

    assert settings["openai_api_key"] == "sk-secret"
    assert row.shown() == "***"
    assert "sk-secret" not in repr(row) + repr(settings)
    assert settings.secrets() == ("sk-secret",)


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_value_that_cannot_be_used_names_its_variable(text):
    """What was wanted, what came, what to do."""
    with pytest.raises(SettingsError, match=rf"SCILLM_TIMEOUT_S must be a number.*'{text}'"):
        load({"SCILLM_TIMEOUT_S": text})


def test_a_bad_secret_is_not_repeated_in_the_error():
    """Not even a wrong secret is shown."""
    secret = Setting(name="pin", env=("PIN",), kind="int", secret=True, doc="")

    with pytest.raises(SettingsError, match="PIN must be a whole number") as caught:
        load({"PIN": "hunter2"}, more=[secret])

    assert "hunter2" not in str(caught.value)


def test_plugins_are_switched_off_by_list_and_by_their_own_switch():
    """SCILLM_PLUGINS_DISABLE, SCILLM_ENABLE_X=0 and the older LITELLM_ENABLE_X=0 add up."""
    settings = load(
        {
            "SCILLM_PLUGINS_DISABLE": "my-plugin, other",
            "SCILLM_ENABLE_CODEWORLD": "0",
            "LITELLM_ENABLE_MINI_AGENT": "false",
            "SCILLM_ENABLE_CODEX": "1",
        }
    )

    assert set(settings["plugins_disable"]) == {"my_plugin", "other", "codeworld", "mini_agent"}


def test_plugins_bring_settings_of_their_own():
    """A plugin's rows are read like the core's."""
    more = [Setting(name="cw_dir", env=("CW_DIR",), kind="path", default="~/x", doc="")]

    assert load({"CW_DIR": "/tmp/y"}, more=more)["cw_dir"] == Path("/tmp/y")
    assert load({}, more=more)["cw_dir"] == Path("~/x").expanduser()
    assert load({"SCILLM_PLUGINS_STRICT": "yes"})["plugins_strict"] is True


def test_a_home_that_does_not_exist_is_named_with_what_to_set():
    """Where ~ means nothing the error says so; a path without it is used as it is."""
    named = Setting(name="d", env=("D_DIR",), kind="path", default="~no-such-user-here/x", doc="")

    with pytest.raises(SettingsError, match=r"D_DIR is to be ~no-such-user-here/x.*Set HOME"):
        load({}, more=[named])
    with pytest.raises(SettingsError, match="D_DIR to a path that does not begin with ~"):
        load({"D_DIR": "~no-such-user-here/y"}, more=[named])
    assert load({"D_DIR": "plain/~y"}, more=[named])["d"] == Path("plain/~y")
