"""`ensure_codex_agent`: a sidecar that answers, found or started, and stopped by who started it."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from scillm import portal
from scillm.errors import EngineError, ScillmError
from scillm.http.choice import make_transport
from scillm.plugins.settings import load
from scillm.protocols import Closes
from scillm.records import HttpCall, Setting
from scillm.runs.chain import JournalLockedError
from scillm.runs.lock import WriterLock

from scillm_codex.agent.handle import GRACE_S, CodexAgentHandle, stop
from scillm_codex.leash import leashed
from scillm_codex.settings import API_BASE

if TYPE_CHECKING:
    from scillm.protocols import Transport
    from scillm.records import Json

log = logging.getLogger("scillm.codex")

KNOWN = ("http://127.0.0.1:8077", "http://127.0.0.1:8089")
"""Where `scillm codex serve`, and the earlier containers, listen by default."""
PROBE_S = 3.0
FALLBACKS = tuple(
    Setting(name=f"ensure_{variable.lower()}", env=(variable,), doc="Fallback base.")
    for variable in (
        "SCILLM_AUTOGEN_FALLBACK_BASE",
        "OPENAI_BASE_URL",
        "CHUTES_API_BASE",
        "RUNPOD_API_BASE",
    )
)
"""Asked in this order when no sidecar answers and none could be started."""


def ensure_codex_agent(base: str | None = None, **options: Any) -> CodexAgentHandle:
    """The synchronous form of `aensure_codex_agent`."""
    return portal.call(lambda: aensure_codex_agent(base, **options))


async def aensure_codex_agent(
    base: str | None = None,
    *,
    arguments: Sequence[str] = (),
    wait_s: float = 15.0,
    fallbacks: bool = True,
    set_environ: bool = False,
    state: Path | None = None,
) -> CodexAgentHandle:
    """A sidecar that answers: `base`, CODEX_AGENT_API_BASE, a known port, one started now.

    When none can be started, the first of SCILLM_AUTOGEN_FALLBACK_BASE, OPENAI_BASE_URL,
    CHUTES_API_BASE and RUNPOD_API_BASE that lists models. `arguments` go to `scillm codex serve`.
    Two programs that ask at the same time start one. The environment is changed (and only
    CODEX_AGENT_API_BASE) when `set_environ` says so. Raises `EngineError` with all that was tried.
    """
    settings = load(more=(API_BASE, *FALLBACKS))
    transport = make_transport(settings)
    try:
        search = _Search(transport, settings, wait_s=wait_s)
        folder = state or home()
        handle = await search.found(base, arguments=arguments, fallbacks=fallbacks, folder=folder)
    finally:
        if isinstance(transport, Closes):
            await transport.aclose()
    if set_environ:
        os.environ["CODEX_AGENT_API_BASE"] = handle.base
    return handle


class _Search:
    """One search for a sidecar. Remembers what was tried."""

    def __init__(
        self, transport: Transport, settings: Mapping[str, Json], *, wait_s: float
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._wait_s = wait_s
        self._tried: list[str] = []

    async def found(
        self, base: str | None, *, arguments: Sequence[str], fallbacks: bool, folder: Path
    ) -> CodexAgentHandle:
        if base is not None:
            if await self._answers(_root(base), "/healthz"):
                return CodexAgentHandle(_root(base))
            raise self._nothing()
        own = self._settings["codex_agent_api_base"]
        for known in [*([own] if own else []), *KNOWN]:
            if await self._answers(_root(known), "/healthz"):
                return CodexAgentHandle(_root(known))
        if own:
            log.warning("Nothing answers at CODEX_AGENT_API_BASE (%s).", own)
        handle = await self._under_lock(arguments, folder)
        if handle is not None:
            return handle
        for setting in FALLBACKS if fallbacks else ():
            other = self._settings[setting.name]
            if other and await self._answers(_root(other), "/v1/models"):
                return CodexAgentHandle(_root(other))
        raise self._nothing()

    async def _answers(self, root: str, path: str) -> bool:
        call = HttpCall(method="GET", url=f"{root}{path}", timeout_s=PROBE_S)
        try:
            reply = await self._transport.send(call)
        except ScillmError as error:
            self._tried.append(f"{root}: {error.message}")
            return False
        if reply.status != 200:
            self._tried.append(f"{root}{path}: HTTP {reply.status}")
        return reply.status == 200

    async def _under_lock(self, arguments: Sequence[str], folder: Path) -> CodexAgentHandle | None:
        told = place_in(folder)
        lock = await _locked(told, self._wait_s)
        if lock is None:
            self._tried.append(f"another program has been starting one for {self._wait_s:g} s")
            return None
        try:
            other = _read(told)
            if other is not None and await self._answers(other, "/healthz"):
                return CodexAgentHandle(other)
            return await self._started(arguments, told)
        finally:
            lock.release()

    async def _started(self, arguments: Sequence[str], told: Path) -> CodexAgentHandle | None:
        command = [sys.executable, "-m", "scillm", "codex", "serve", "--port", "0", *arguments]
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(  # noqa: S603, ASYNC220
                leashed(command, grace_s=GRACE_S),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # Nobody reads it later on, and a full pipe would hold the sidecar up.
                stderr=errors,
                start_new_session=True,
            )
            root = ""
            try:
                with anyio.move_on_after(self._wait_s):
                    root = await to_thread.run_sync(_root_told, child, abandon_on_cancel=True)
                if root and await self._answers(root, "/healthz"):
                    _tell(told, root)
                    handle = CodexAgentHandle(root, child)
                    atexit.register(handle.close)
                    return handle
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(stop, child)
                raise
            await to_thread.run_sync(stop, child)
            why = _last_line(errors) or f"it was not ready after {self._wait_s:g} s"
        self._tried.append(f"scillm codex serve: {why}")
        return None

    def _nothing(self) -> EngineError:
        tried = "; ".join(self._tried) or "nothing"
        return EngineError(
            f"No Codex sidecar answers, and none could be started. Tried: {tried}. Start one with "
            "`scillm codex serve` and set CODEX_AGENT_API_BASE."
        )


async def _locked(path: Path, wait_s: float) -> WriterLock | None:
    end = anyio.current_time() + wait_s
    while True:
        try:
            return WriterLock(path)
        except JournalLockedError:
            if anyio.current_time() >= end:
                return None
            await anyio.sleep(0.05)


def _root(base: str) -> str:
    return base.rstrip("/").removesuffix("/v1").rstrip("/")


def home() -> Path:
    """The folder in which programs tell each other of what they started."""
    return Path("~/.scillm/codex").expanduser()


def place_in(folder: Path) -> Path:
    """Where in it, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "ensured.json"


def _tell(told: Path, root: str) -> None:
    told.write_text(json.dumps({"base": root}), encoding="utf-8")


def _read(told: Path) -> str | None:
    try:
        found = json.loads(told.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    base = found.get("base") if isinstance(found, Mapping) else None
    return base if isinstance(base, str) else None


def _root_told(child: subprocess.Popen[bytes]) -> str:
    """The address in the one line that the sidecar writes once it answers."""
    line = b"" if child.stdout is None else child.stdout.readline()
    text = line.decode(errors="replace").strip()
    return text.rpartition(" ")[2] if "ready on http" in text else ""


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
