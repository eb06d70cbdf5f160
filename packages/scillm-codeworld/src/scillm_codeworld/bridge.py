"""The HTTP bridge: `scillm codeworld serve`, or `uvicorn scillm_codeworld.bridge:app`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from scillm.errors import UsageError
from scillm.plugins import settings as core_settings
from scillm.records import JobResult
from scillm.serve.bridge_app import BridgeLimits, bridge_app
from scillm.serve.seed_envelopes import CODEWORLD

from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.items import storable
from scillm_codeworld.record.envelope import familiar_result, read_asked
from scillm_codeworld.record.familiar import run_manifest
from scillm_codeworld.record.kept import manifest_for, signals_of
from scillm_codeworld.record.sessions import session_id
from scillm_codeworld.records import ENGINE
from scillm_codeworld.sandbox import open_sandbox
from scillm_codeworld.sandbox.levels import level_of, strictest
from scillm_codeworld.settings import ALL_SETTINGS, options_from, seed_from

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.records import Job, Json

    AsgiApp = Callable[..., Any]

PORT = 8888


class Served:
    """The engine behind the bridge: takes older arguments, keeps records, knows sessions.

    Remembers the settings of its server, and whom to tell.
    """

    def __init__(self, values: Mapping[str, Json], emit: Callable[[Event], None]) -> None:
        self._settings = values
        self._engine = CodeWorldEngine(emit=emit)

    async def run(self, job: Job, /) -> JobResult:
        """As the engine's, with the run manifest, the session's signals and notes beside it."""
        asked = read_asked(job.items, job.options)
        refuse_address(asked.options)
        session = {name: session_id(value, name=name) for name, value in asked.session.items()}
        options = dict(asked.options)
        options["isolation"] = strictest(
            options.get("isolation"), self._settings["codeworld_isolation"]
        )
        own = evolve(
            job,
            items=[storable(item) for item in asked.items],
            options=options_from(self._settings, options).to_dict(),
            seed=seed_from(self._settings, job.seed or None),
        )
        manifest = await manifest_for(
            self._engine, own, self._settings, keep=bool(self._settings["codeworld_keep"])
        )
        signals = await signals_of(session, manifest, self._settings)
        head = run_manifest(manifest, ts=time.time(), session=session)
        return JobResult(
            summary=manifest.summary,
            results=[
                familiar_result(result, item, judge=asked.options.get("judge"))
                for result, item in zip(manifest.results, own.items, strict=True)
            ],
            findings=manifest.findings,
            environment={
                **manifest.environment.get(ENGINE, {}),
                "run_manifest": head,
                "signals": signals,
                "notes": list(asked.notes),
            },
        )


def refuse_address(options: Mapping[str, Json]) -> None:
    """`UsageError` where a client says to which address the server shall turn for a model."""
    wish = options.get("autogenerate")
    if isinstance(wish, Mapping) and wish.get("api_base"):
        raise UsageError(
            "autogenerate.api_base is not taken from clients; the server's is "
            "CODEWORLD_MCTS_AUTO_API_BASE."
        )


def make_app(
    values: Mapping[str, Json] | None = None,
    *,
    limits: BridgeLimits | None = None,
    isolation: str | None = None,
) -> AsgiApp:
    """The bridge as an ASGI app, from `values` (default: the environment of this moment).

    `isolation` is the weakest level that will do for every job, whatever it asks itself. Raises
    `UsageError` for one that does not exist.
    """
    found = dict(core_settings.load(more=ALL_SETTINGS) if values is None else values)
    if isolation is not None:
        found["codeworld_isolation"] = level_of(isolation, name="isolation")
    strictest(None, found.get("codeworld_isolation"))  # a word that is no level is refused now

    async def ready() -> Mapping[str, Json]:
        async with open_sandbox(require=found.get("codeworld_isolation")) as sandbox:
            return {"ready": True, "isolation": dict(sandbox.report())}

    return bridge_app(
        lambda emit: Served(found, emit),
        spec=CODEWORLD,
        token=found.get("codeworld_token"),
        ready=ready,
        limits=limits,
    )


def limits_of(given: Mapping[str, Json]) -> BridgeLimits:
    """The server's limits, `given` ones in the place of the defaults; `UsageError` for no limit."""
    for name, value in given.items():
        if not value > 0:
            raise UsageError(f"{name} must be above 0, but is {value}.")
    return evolve(BridgeLimits(), **given)


_made: list[AsgiApp] = []


def __getattr__(name: str) -> AsgiApp:
    # `uvicorn scillm_codeworld.bridge:app` asks for the attribute; importing reads no environment.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _made:
        _made.append(make_app())
    return _made[0]
