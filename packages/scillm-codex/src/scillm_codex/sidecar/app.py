"""The sidecar as an ASGI app: OpenAI's chat API in front of Codex, of `codex exec`, or an echo."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from attrs import field, frozen
from scillm.errors import ScillmError, UsageError
from scillm.providers.secrets import masked
from scillm.serve.chat_app import ChatLimits, chat_app
from scillm.serve.metrics import Metrics
from scillm.serve.problems import Problem, problem_of

from scillm_codex.doctor.auth import read_auth_file
from scillm_codex.sidecar import echo
from scillm_codex.sidecar.binary import Binary, untested, with_version
from scillm_codex.sidecar.child import Command
from scillm_codex.sidecar.codex import CodexServer
from scillm_codex.sidecar.execing import CodexExec
from scillm_codex.sidecar.home import (
    Profile,
    Upstream,
    child_environment,
    make_home,
    refuse_work_in,
)
from scillm_codex.sidecar.keeper import Keeper, Renewal
from scillm_codex.sidecar.plan import Place, ignored_params
from scillm_codex.sidecar.rpc import RpcError

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Json
    from scillm.serve.web import Starlette

IGNORED = "x-scillm-ignored-params"
NO_LIMIT_S = 7 * 24 * 3600.0


@frozen(kw_only=True)
class Sidecar:
    """What a sidecar is made of."""

    binary: Binary | None = None
    """None for echo mode only."""
    root: Path = Path("~/.scillm/codex")
    profile: Profile = "chat"
    auth: Path | None = None
    upstream: Upstream | None = None
    model: str | None = None
    """The model Codex takes where a request names none of its own; it is listed first."""
    cwd: Path | None = None
    sandbox: str = "read-only"
    allowed: tuple[Path, ...] = ()
    token: str | None = field(default=None, repr=False)
    turn_s: float | None = None
    """Longest time for an answer; the default is 600 s for chat and no limit for agent."""
    idle_s: float = 300.0
    width: int = 32
    renewal: Renewal = field(factory=Renewal)
    use_exec: bool = False
    echo: bool = False


def sidecar_app(sidecar: Sidecar) -> Starlette:
    """The app of a sidecar; it starts Codex when it is served, and ends it with the server."""
    if sidecar.echo:
        return chat_app(
            echo.Echo(),
            models=[echo.MODEL],
            accepts=lambda _model: True,
            token=sidecar.token,
            headers=lambda _request: echo.HEADERS,
            name="codex",
        )
    if sidecar.binary is None:
        raise UsageError("A sidecar needs a Codex binary, unless it only echoes.")
    command, place = prepared(sidecar, sidecar.binary)
    if sidecar.use_exec:
        return _exec_app(sidecar, command, place)
    keeper = Keeper(command, renewal=sidecar.renewal)
    server = CodexServer(keeper, place, idle_s=sidecar.idle_s)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with keeper:
            yield

    async def models() -> list[str]:
        named = [sidecar.model] if sidecar.model else []
        return list(dict.fromkeys([*named, *await server.models()]))

    async def ready() -> Mapping[str, Json]:
        return await _ready(sidecar, keeper)

    return chat_app(
        server,
        models=models,
        # Codex has models that its catalogue does not list; what it does not know it says itself.
        accepts=lambda _model: True,
        shows=_nothing_more,
        token=sidecar.token,
        ready=ready,
        limits=_limits(sidecar),
        name="codex",
        headers=ignored_header,
        problem=_problems(sidecar),
        lifespan=lifespan,
        metrics=_metrics(keeper),
    )


def prepared(sidecar: Sidecar, binary: Binary) -> tuple[Command, Place]:
    """The home on disk, how to start Codex in it, and where requests work."""
    home = make_home(
        sidecar.root,
        sidecar.profile,
        upstream=sidecar.upstream,
        auth=sidecar.auth,
        model=sidecar.model,
        binary=binary.path,
    )
    cwd = (sidecar.cwd or home.parent / "work").resolve()
    cwd.mkdir(parents=True, exist_ok=True)
    for folder in (cwd, *(folder.resolve() for folder in sidecar.allowed)):
        refuse_work_in(folder, home)
    place = Place(
        profile=sidecar.profile,
        home=home,
        cwd=cwd,
        sandbox=sidecar.sandbox,
        allowed=tuple(folder.resolve() for folder in sidecar.allowed),
    )
    env = child_environment(home, os.environ, upstream=sidecar.upstream)
    return Command(argv=[str(binary.path), "app-server"], env=env, cwd=cwd), place


def _exec_app(sidecar: Sidecar, command: Command, place: Place) -> Starlette:
    return chat_app(
        CodexExec(command, place, turn_s=_turn_s(sidecar)),
        models=[sidecar.model] if sidecar.model else [],
        accepts=lambda _model: True,
        shows=_nothing_more,
        token=sidecar.token,
        ready=partial(_ready_to_run, sidecar),
        limits=_limits(sidecar),
        name="codex",
        headers=ignored_header,
        problem=_problems(sidecar),
    )


async def _ready_to_run(sidecar: Sidecar) -> Mapping[str, Json]:
    """Whether the binary of the fallback runs, and whether there is a usable login."""
    assert sidecar.binary is not None
    await to_thread.run_sync(with_version, sidecar.binary)
    found: dict[str, Json] = {"profile": sidecar.profile}
    return {"ready": _examined(sidecar, found), **found}


def _examined(sidecar: Sidecar, found: dict[str, Json]) -> bool:
    """Whether binary and login are as they should be; what was seen is put into `found`."""
    binary = sidecar.binary
    if binary is not None and binary.version:
        found["codex"] = binary.version
        if not binary.tested:
            found["warning"] = untested(binary)
    if sidecar.upstream is not None:
        return True
    auth = read_auth_file(sidecar.auth)
    found["auth"] = auth.summary()
    if not auth.usable:
        found["reason"] = auth.problem
    return auth.usable


def _nothing_more(_model: str) -> bool:
    return False


def ignored_header(request: ChatRequest) -> Mapping[str, str]:
    """Names the parameters of a request that had no effect."""
    ignored = [name for name in ignored_params(request) if name.isascii() and name.isprintable()]
    return {IGNORED: ", ".join(ignored)[:1000]} if ignored else {}


def _turn_s(sidecar: Sidecar) -> float:
    if sidecar.turn_s is not None:
        return sidecar.turn_s or NO_LIMIT_S
    return 600.0 if sidecar.profile == "chat" else NO_LIMIT_S


def _limits(sidecar: Sidecar) -> ChatLimits:
    return ChatLimits(max_seconds=_turn_s(sidecar), max_concurrency=sidecar.width, queue=256)


def _problems(sidecar: Sidecar) -> _Problems:
    key = sidecar.upstream.api_key if sidecar.upstream is not None else None
    return _Problems(tuple(secret for secret in (sidecar.token, key) if secret))


class _Problems:
    """What our errors are to a client: an answer that does not fit is the model's fault."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets

    def __call__(self, error: ScillmError) -> Problem:
        from scillm.errors import JsonTextError, SchemaError

        if isinstance(error, (SchemaError, JsonTextError)):
            said = masked(str(error), self._secrets)
            return Problem(status=502, message=said, code="invalid_json_from_model")
        return problem_of(error, secrets=self._secrets)


def _metrics(keeper: Keeper) -> Metrics:
    metrics = Metrics()
    gauges = {
        "scillm_codex_starts": ("Codex processes started.", lambda: keeper.starts),
        "scillm_codex_deaths": ("Codex processes that died.", lambda: keeper.deaths),
        "scillm_codex_renewals": (
            "Codex processes replaced for their age.",
            lambda: keeper.renewals,
        ),
        "scillm_codex_threads_open": (
            "Requests in the running Codex process.",
            lambda: keeper.child.active if keeper.child else 0,
        ),
        "scillm_codex_rss_bytes": (
            "Memory of the running Codex process.",
            lambda: (keeper.child.rss_bytes() or 0) if keeper.child else 0,
        ),
    }
    for name, (doc, read) in gauges.items():
        metrics.gauge(name, doc, read)
    return metrics


async def _ready(sidecar: Sidecar, keeper: Keeper) -> Mapping[str, Json]:
    """Whether Codex runs and answers, and whether there is a usable login where one is needed."""
    child = await keeper.ready()
    found: dict[str, Json] = {
        "profile": sidecar.profile,
        "handshake_ms": round(child.handshake_s * 1000, 1),
        "threads": child.active,
    }
    well = _examined(sidecar, found)
    try:
        await child.rpc.call("server/diagnostics", {}, within_s=10.0)
    except RpcError as error:
        well, found["reason"] = False, f"server/diagnostics: {error.message}"
    return {"ready": well, **found}
