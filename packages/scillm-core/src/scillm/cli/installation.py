"""What is installed here: the registry without switched-off plugins, the hooks, the settings."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from scillm.plugins.hooks import Hooks
from scillm.plugins.registry import Registry
from scillm.plugins.settings import left_out, load

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from scillm.plugins.settings import Settings


def registry() -> Registry:
    """The installed plugins without those left out; works while other settings are wrong."""
    return Registry(disabled=left_out())


def settings(plugins: Registry) -> Settings:
    """The core's settings and those of every plugin; `SettingsError` when a value is wrong."""
    strict = load()["plugins_strict"]
    with prints_to_stderr():
        more = Hooks(plugins, strict=strict).settings()
    return load(more=more)


def prints_to_stderr() -> AbstractContextManager[object]:
    """While plugins are loaded: stdout belongs to the command's own table or JSON."""
    return redirect_stdout(sys.stderr)
