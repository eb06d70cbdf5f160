"""What every command of `scillm runs` takes, and the store it means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from scillm.plugins.settings import load
from scillm.runs.store import RunStore

Function = TypeVar("Function", bound=Callable[..., Any])


def options(function: Function) -> Function:
    """The options every command here has."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    return runs_dir(function)


def runs_dir(function: Function) -> Function:
    """The option that names another store."""
    return click.option(
        "--runs-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the run store; by default the setting `runs_dir`.",
    )(function)


def store_in(folder: Path | None) -> RunStore:
    """The store in `folder`, or in the folder of the settings."""
    return RunStore(folder or load()["runs_dir"])
