"""One job run and, where it is wanted, kept; and what its session says of it afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from scillm.runs.recorded import keep_job
from scillm.runs.replay import run_job
from scillm.runs.store import RunStore

from scillm_codeworld.record.plateau import value_of
from scillm_codeworld.record.sessions import NAME, Sessions
from scillm_codeworld.record.sessions_redis import SCHEMES, RedisSessions

if TYPE_CHECKING:
    from scillm.protocols import Engine
    from scillm.records import Job, Json
    from scillm.runs.manifest import Manifest


async def manifest_for(
    engine: Engine, job: Job, settings: Mapping[str, Json], *, keep: bool
) -> Manifest:
    """Run `job`; with `keep` its record goes into the run store."""
    if keep:
        return await keep_job(engine, job, RunStore(settings["runs_dir"]))
    return await run_job(engine, job, run_id=f"unsaved-{secrets.token_hex(8)}")


def sessions_at(place: str | None, runs_dir: Path) -> Sessions | RedisSessions:
    """Where sessions are kept: a Redis, a file, or the file beside the runs."""
    if place is not None and place.startswith(SCHEMES):
        return RedisSessions(place)
    return Sessions(place or runs_dir / NAME)


async def signals_of(
    session: Mapping[str, str | None], manifest: Manifest, settings: Mapping[str, Json]
) -> dict[str, Json] | None:
    """How the session stands after this run; None without a session, or without a result."""
    name, value = session["session_id"], value_of(manifest.results)
    if name is None or value is None:
        return None
    sessions = sessions_at(settings.get("codeworld_sessions"), Path(settings["runs_dir"]))
    note = partial(
        sessions.note,
        name,
        session["track_id"] or "",
        run_id=manifest.run_id,
        value=value,
        at=manifest.created,
    )
    return await anyio.to_thread.run_sync(note)
