"""Certainly as a provider: `completion(model="certainly", items=[…])`, here or at a bridge."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
from scillm.errors import EngineError, UnknownModelError, UnsupportedParamError, UsageError
from scillm.models import ChatMessage, Choice, Completion
from scillm.plugins.settings import load
from scillm.providers.bridge import BridgeEngine
from scillm.records import Job
from scillm.runs.replay import run_job

from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.items import OPTION_NAMES, job_seconds, storable
from scillm_certainly.pool.resident import Resident
from scillm_certainly.portfolio.configured import model_of
from scillm_certainly.records import ALIAS, ENGINE
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.protocols import Engine, Host
    from scillm.records import ChatRequest, Endpoint, JobResult, Json
    from scillm.runs.manifest import Manifest

ITEM_NAMES = ("items", "lean4_requirements")
RENAMED = {"lean4_flags": "flags", "session": "session_id", "track": "track_id"}
PARAMS = (*ITEM_NAMES, "options", "seed", *OPTION_NAMES, *RENAMED)
MODELS = frozenset({"", ENGINE, ALIAS})


class Certainly:
    """Checks Lean code in this process, or at `api_base`; also an `Engine`.

    The base is `api_base`, else CERTAINLY_BRIDGE_BASE, else LEAN4_BRIDGE_BASE, else none: then the
    work is done here. Remembers its host's settings and where it works.
    """

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        known = {row.name for row in SETTINGS} <= set(host.settings)
        self._settings: Mapping[str, Json] = host.settings if known else load(more=SETTINGS)
        base = endpoint.api_base or self._settings["certainly_bridge_base"]
        self._engine: Engine
        if base is not None:
            self._engine = BridgeEngine(
                base, host.transport, token=endpoint.api_key, name="the Certainly bridge"
            )
        else:
            self._engine = CertainlyEngine(
                Resident(self._settings), emit=host.emit, model=model_of(self._settings)
            )
        self._base = base

    async def run(self, job: Job, /) -> JobResult:
        """Check every item of `job`; a malformed item fails alone."""
        return await self._engine.run(job)

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Check the request's items; everything found is in `additional_kwargs["certainly"]`.

        Raises `UsageError` for a request that is not one, `EngineError` after `timeout_s`.
        """
        job = job_of(request, self._settings)
        run_id = f"unsaved-{secrets.token_hex(8)}"
        try:
            with anyio.fail_after(request.timeout_s):
                manifest = await run_job(self, job, run_id=run_id)
        except TimeoutError as error:
            raise EngineError(
                f"The job of {len(job.items)} items was not done within timeout="
                f"{request.timeout_s:g} s. Give it more time, or fewer items."
            ) from error
        told = told_of(manifest)
        both = bool(self._settings["certainly_attach_both"])
        counts = manifest.summary
        return Completion(
            id=run_id,
            created=int(time.time()),
            model=request.model or ENGINE,
            choices=[
                Choice(
                    message=ChatMessage(
                        content=f"Certainly: items={counts.get('items')}, "
                        f"proved={counts.get('proved')}, failed={counts.get('failed')}, "
                        f"unproved={counts.get('unproved')}"
                    ),
                    finish_reason="stop",
                )
            ],
            additional_kwargs={ENGINE: told, **({ALIAS: told} if both else {})},
        )


def told_of(manifest: Manifest) -> dict[str, Json]:
    """The envelope that users of `additional_kwargs["certainly"]` know."""
    counts, results = manifest.summary, list(manifest.results)
    return {
        "summary": dict(counts),
        "statistics": {
            "successful_proofs": counts.get("proved"),
            "failed_proofs": counts.get("failed"),
            "unproved": counts.get("unproved"),
        },
        "proof_results": results,
        "results": results,
        "run_manifest": {
            **manifest.head(),
            "item_ids": [result.get("item_id") for result in results],
            "certificates": [
                result["certificate"] for result in results if result.get("certificate")
            ],
        },
    }


def job_of(request: ChatRequest, settings: Mapping[str, Json]) -> Job:
    """The job a request asks for; `UsageError` naming what is missing, unknown or doubled."""
    if request.model not in MODELS:
        raise UnknownModelError(
            f"Certainly has no model {request.model!r}; the models are {ENGINE!r} and {ALIAS!r}.",
            candidates=[ENGINE, ALIAS],
        )
    if request.messages:
        raise UsageError("Certainly works on items=[…], not on messages; leave messages out.")
    if request.stream:
        raise UnsupportedParamError("Certainly does not stream; leave stream out.", param="stream")
    params = request.params
    for name in params:
        if name not in PARAMS:
            raise UnsupportedParamError(
                f"Certainly has no parameter {name!r}; it has {', '.join(PARAMS)}.", param=name
            )
    seed = params.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"seed must be a whole number, but is {seed!r}.")
    return Job(
        engine=ENGINE,
        items=[storable(item) for item in _items(params)],
        options={**defaults_of(settings), **_options(params)},
        seed=seed,
    )


def _items(params: Mapping[str, Json]) -> list[Json]:
    given = [name for name in ITEM_NAMES if params.get(name) is not None]
    if len(given) == 2:
        raise UsageError("items and lean4_requirements are both given; give one.")
    items = params[given[0]] if given else None
    if not isinstance(items, (list, tuple)) or not items:
        raise UsageError(
            "Certainly needs items=[{'code': 'theorem …'}, …], but items is "
            f"{type(items).__name__ if items else 'missing or empty'}."
        )
    return list(items)


def _options(params: Mapping[str, Json]) -> dict[str, Json]:
    options = params.get("options") or {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options must be a mapping, but is {options!r}.")
    merged: dict[str, Json] = {}
    for name, value in options.items():
        merged[RENAMED.get(str(name), str(name))] = value
    for name in (*OPTION_NAMES, *RENAMED):
        if params.get(name) is None:
            continue
        own = RENAMED.get(name, name)
        if own in merged:
            raise UsageError(f"{own} is given more than once; give it once.")
        merged[own] = params[name]
    job_seconds(merged)
    try:
        json.dumps(merged, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The options have no JSON form: {error}.") from error
    return merged
