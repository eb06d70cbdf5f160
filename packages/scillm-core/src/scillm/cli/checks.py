"""The core's own checks for `scillm doctor`, and those of the plugins."""

from __future__ import annotations

import platform
import re
import sys
import tempfile
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from scillm import portal
from scillm.cli.installation import prints_to_stderr, registry
from scillm.errors import SettingsError
from scillm.plugins.groups import HOOKS
from scillm.plugins.hooks import Hooks
from scillm.plugins.settings import Settings, load
from scillm.records import MIN_SECRET_CHARS, Check, evolve

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from scillm.plugins.registry import Registry

CORE = "scillm-core"

REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+)[^;]*(;\s*extra == ["']cli["']\s*)?""")
"""A requirement that always holds for the core, or for its extra `cli`."""

OLDEST_PYTHON = (3, 10)
PORTAL_TIMEOUT_S = 10.0


def all_checks() -> list[Check]:
    """Every check, in the order of the report; a set secret is masked wherever it turns up."""
    plugins = registry()
    with prints_to_stderr():
        libraries = [library_check(name, whence) for name, whence in required().items()]
        broken = {check.name for check in libraries if not check.ok}
        hooks = None if "pluggy" in broken else Hooks(plugins)
        try:
            settings, refused = load(more=hooks.settings() if hooks else ()), ""
        except SettingsError as error:
            settings, refused = None, error.message
        checks = [
            python_check(),
            core_check(),
            *libraries,
            portal_check(broken),
            settings_check(refused),
            store_check(settings),
            *plugin_checks(plugins, hooks),
        ]
    return list(masked(checks, settings.secrets() if settings else ()))


def python_check() -> Check:
    """The interpreter is one we support."""
    return Check(
        name="python",
        ok=sys.version_info >= OLDEST_PYTHON,
        detail=f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        fix=f"use Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer",
    )


def core_check() -> Check:
    """The core is installed with its metadata; without it no entry point would be found."""
    try:
        version = metadata.version(CORE)
    except metadata.PackageNotFoundError:
        return Check(
            name=CORE,
            ok=False,
            detail="importable, but not installed: none of its plugins can be found",
            fix=f"pip install {CORE}",
        )
    return Check(name=CORE, ok=True, detail=version)


def required() -> dict[str, str]:
    """Libraries the installed core asks for, each with the requirement that brings it."""
    try:
        return libraries_in(metadata.requires(CORE) or ())
    except metadata.PackageNotFoundError:
        return {}  # `core_check` says so


def libraries_in(requirements: Iterable[str]) -> dict[str, str]:
    """The same for requirements as metadata writes them, without other extras and platforms."""
    matches = [REQUIREMENT.fullmatch(text) for text in requirements]
    return {match[1]: f"{CORE}[cli]" if match[2] else CORE for match in matches if match}


def library_check(name: str, whence: str) -> Check:
    """A third-party library can be imported; its version."""
    fix = f"pip install --force-reinstall {name}, or pip install '{whence}'"
    try:
        import_module(name.replace("-", "_"))
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name=name, ok=False, detail="importable, but its metadata is missing", fix=fix)
    except Exception as error:  # noqa: BLE001 - the report must survive a stranger's import
        return Check(name=name, ok=False, detail=f"{type(error).__name__}: {error}", fix=fix)
    return Check(name=name, ok=True, detail=version)


def portal_check(broken: Container[str]) -> Check:
    """A synchronous call reaches the background event loop and comes back."""
    name = "event loop"
    if "anyio" in broken:
        return Check(name=name, ok=None, detail="needs anyio")
    import anyio

    future = portal.start(anyio.sleep, 0)
    try:
        future.result(timeout=PORTAL_TIMEOUT_S)
    except FutureTimeoutError:
        future.cancel()
        return Check(
            name=name,
            ok=False,
            detail=f"no answer from the background event loop within {PORTAL_TIMEOUT_S:g} s",
            fix="report this with the output of `scillm doctor --json`",
        )
    return Check(name=name, ok=True, detail="synchronous calls reach the background event loop")


def settings_check(refused: str) -> Check:
    """Every setting has a value that can be used."""
    return Check(
        name="settings",
        ok=not refused,
        detail=refused or "every value can be used",
        fix="correct or unset that variable; `scillm config` then shows every value",
    )


def store_check(settings: Settings | None) -> Check:
    """A file can be written where the run store is, or where it would be made; none is left."""
    name = "run store"
    if settings is None:
        return Check(name=name, ok=None, detail="its folder is not known while settings are wrong")
    root = Path(settings["runs_dir"])
    nearest = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"scillm doctor")
    except OSError as error:
        return Check(
            name=name,
            ok=False,
            detail=f"{root} cannot be written: {error}",
            fix=f"give yourself the right to write to {nearest}, or set SCILLM_RUNS_DIR",
        )
    detail = f"{root} can be written" if nearest == root else f"{root} can be created when needed"
    return Check(name=name, ok=True, detail=detail)


def plugin_checks(plugins: Registry, hooks: Hooks | None) -> Iterator[Check]:
    """One line for all usable plugins, one per unusable plugin, and the plugins' own lines."""
    found = plugins.describe()
    ready = [info for info in found if info.status == "ok"]
    groups = len({info.group for info in ready})
    yield Check(
        name="plugins",
        ok=bool(ready),
        detail=f"{len(ready)} of {len(found)} load, in {groups} groups",
        fix=f"pip install --force-reinstall {CORE}",
    )
    conflicts = set()
    for info in found:
        name = f"plugin {info.name} ({info.group})"
        if info.status == "disabled":
            yield Check(name=name, ok=None, detail=info.reason)
        elif info.status == "failed":
            fix = f"update or uninstall {info.distribution}"
            yield Check(name=name, ok=False, detail=info.reason, fix=fix)
        elif info.status == "conflict" and name not in conflicts:
            conflicts.add(name)
            fix = f"uninstall {info.distribution} or the other one"
            yield Check(name=name, ok=False, detail=info.reason, fix=fix)
    if hooks is None:
        yield Check(name="checks of plugins", ok=None, detail="need pluggy")
        return
    # A hook plugin that cannot be imported has its line already.
    told = {
        f"hook loading of {info.name}"
        for info in found
        if info.group == HOOKS and info.status in ("failed", "conflict")
    }
    yield from (check for check in hooks.checks() if check.name not in told)


def masked(checks: Iterable[Check], secrets: Iterable[str]) -> Iterator[Check]:
    """The checks without any of `secrets` in their texts."""
    known = sorted((s for s in secrets if len(s) >= MIN_SECRET_CHARS), key=len, reverse=True)

    def bare(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return text

    for check in checks:
        yield evolve(check, name=bare(check.name), detail=bare(check.detail), fix=bare(check.fix))
