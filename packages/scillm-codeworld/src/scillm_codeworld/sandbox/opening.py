"""Opens the best sandbox the host allows, or refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scillm.errors import SandboxError, UsageError

from scillm_codeworld.options import default_width
from scillm_codeworld.sandbox.cgroups import find_groups
from scillm_codeworld.sandbox.container import Container
from scillm_codeworld.sandbox.levels import (
    CONTAINER,
    L1,
    L4,
    WASM,
    candidates,
    level_of,
    refused,
    strictest,
)
from scillm_codeworld.sandbox.limited import Limited
from scillm_codeworld.sandbox.toolchains import PYTHON, check_languages
from scillm_codeworld.sandbox.warm import Warm
from scillm_codeworld.sandbox.wasm.fuelled import Fuelled
from scillm_codeworld.sandbox.zygotes import Order
from scillm_codeworld.settings import isolation_settings

if TYPE_CHECKING:
    from scillm_codeworld.sandbox.protocol import Sandbox

LOADED_FIRST = "Modules are loaded ahead of the programs at levels L2 to L4"


@asynccontextmanager
async def open_sandbox(
    *,
    require: str | None = None,
    prefer: str | None = None,
    languages: Sequence[str] = (PYTHON,),
    preload: Sequence[str] = (),
) -> AsyncIterator[Sandbox]:
    """The strongest sandbox to be had here, closed at the end of the block.

    `prefer` is the strongest level to try, `require` the weakest that will do. What
    SCILLM_CODEWORLD_ISOLATION requires can be raised by `require`, not lowered. A container is
    used when it is preferred by that name, `wasm` when it is preferred or required. `preload` names
    installed modules that programs may import. Raises `SandboxError` when nothing good enough can
    be had, `UsageError` for a level, language or module that does not exist.
    """
    check_languages(languages)
    settings = isolation_settings()
    floor = strictest(require, settings.get("codeworld_isolation"))
    if preload and (prefer == CONTAINER or WASM in (prefer, floor)):
        raise SandboxError(f"{LOADED_FIRST}, not in a container of your own and not at level wasm.")
    if prefer == CONTAINER:
        sandbox = await _container(settings.get("codeworld_container"), floor)
    elif WASM in (prefer, floor):
        sandbox = await _wasm(settings.get("codeworld_wasm_cache"), floor)
    else:
        ceiling = level_of(prefer, name="The preferred isolation") if prefer else None
        levels = candidates(require=floor, prefer=ceiling)
        sandbox = await _best(levels, floor or L1, _Wish(preload, languages))
    try:
        yield sandbox
    finally:
        await sandbox.aclose()


async def _best(levels: Sequence[str], floor: str, wish: _Wish) -> Sandbox:
    reasons: list[str] = []
    for level in levels:
        try:
            sandbox = _of_level(level, wish, reasons)
        except SandboxError as error:
            reasons.append(str(error))
            continue
        problem: str | None = "cancelled"
        try:
            problem = await sandbox.probed()
        finally:
            if problem is not None:
                await sandbox.aclose()
        if problem is None:
            return sandbox
        reasons.append(problem)
    raise refused(floor, reasons)


async def _container(command: str | None, floor: str | None) -> Sandbox:
    if floor is not None:
        raise refused(floor, ["A container of your own has no level that could be compared"])
    if not command:
        raise UsageError(
            "A container was preferred, but SCILLM_CODEWORLD_CONTAINER gives no command to run "
            "one, such as: docker run --rm -i --network none python:3.12-slim"
        )
    sandbox = Container(command)
    problem = await sandbox.probed()
    if problem is not None:
        raise SandboxError(problem)
    return sandbox


async def _wasm(cache: str | None, floor: str | None) -> Sandbox:
    if floor not in (None, WASM):
        raise refused(floor, ["Level wasm was preferred, which cannot be compared with it"])
    sandbox = Fuelled(_cache_folder(cache), workers=default_width())
    problem: str | None = "cancelled"
    try:
        problem = await sandbox.probed()
    finally:
        if problem is not None:
            await sandbox.aclose()
    if problem is not None:
        raise SandboxError(problem)
    return sandbox


def _cache_folder(named: str | None) -> Path:
    if named:
        return Path(named)
    try:
        return Path("~/.cache/scillm/wasm").expanduser()
    except RuntimeError as error:
        raise UsageError(
            "Level wasm keeps its interpreter in the user's cache, and this user has no home; set "
            "SCILLM_CODEWORLD_WASM_CACHE or HOME."
        ) from error


class _Wish(NamedTuple):
    preload: Sequence[str]
    languages: Sequence[str]


def _of_level(level: str, wish: _Wish, reasons: Sequence[str]) -> Limited | Warm:
    if level == L1:
        if wish.preload:
            raise SandboxError(f"L1: {LOADED_FIRST}")
        return Limited(reasons=reasons)
    order = preloading(wish.preload, level=level)
    groups = None
    if level == L4:
        groups = find_groups(isolation_settings().get("codeworld_cgroup"))
    return Warm(
        order,
        zygotes=default_width(),
        languages=wish.languages,
        reasons=reasons,
        groups=groups,
    )


def preloading(names: Sequence[str], *, level: str) -> Order:
    """A zygote that loads `names`, and shows nothing else that is installed.

    Raises `UsageError` for a module that is not installed.
    """
    places: list[str] = []
    shown: list[str] = []
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise UsageError(f"The module {name!r} is to be loaded first, but is not installed.")
        origin = Path(spec.origin)
        home = origin.parent.parent if spec.submodule_search_locations else origin.parent
        places.append(str(home))
        shown.append(str(origin.parent if spec.submodule_search_locations else origin))
        # Wheels put the libraries they bring into a folder beside the package.
        shown += [str(libraries) for libraries in (home / f"{name}.libs",) if libraries.is_dir()]
    return Order(level=level, preload=tuple(names), path=tuple(places), bind=tuple(shown))
