"""CodeWorld as a provider: `completion(model="codeworld", items=…)`, in this process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
from scillm.errors import EngineError, UnknownModelError, UnsupportedParamError, UsageError
from scillm.models import ChatMessage, Choice, Completion
from scillm.records import Job
from scillm.runs.replay import run_job

from scillm_codeworld.engine import CodeWorldEngine
from scillm_codeworld.items import storable
from scillm_codeworld.options import NAMES
from scillm_codeworld.records import ENGINE
from scillm_codeworld.settings import options_from

if TYPE_CHECKING:
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, JobResult, Json

PARAMS = ("items", "options", "seed", *NAMES)
MODELS = frozenset({"", ENGINE})


class CodeWorld:
    """Runs jobs in this process; also an `Engine`. Remembers its host's settings.

    Parameters: `items` (required), `seed`, and the options by name or as one mapping `options`.
    """

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        if endpoint.api_base is not None:
            raise UsageError(
                f"CodeWorld runs in this process; the HTTP bridge at {endpoint.api_base!r} is not "
                "part of this version. Leave api_base out."
            )
        self._settings = host.settings
        self._engine = CodeWorldEngine(emit=host.emit)

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item of `job`; a malformed item fails alone."""
        return await self._engine.run(job)

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Run the request's items; the whole result is in `additional_kwargs["codeworld"]`.

        Raises `UsageError` for a request that is not one, `EngineError` after `timeout_s`.
        """
        job = job_of(request, self._settings)
        run_id = f"unsaved-{secrets.token_hex(8)}"
        try:
            with anyio.fail_after(request.timeout_s):
                manifest = await run_job(self._engine, job, run_id=run_id)
        except TimeoutError as error:
            raise EngineError(
                f"The job of {len(job.items)} items was not done within timeout="
                f"{request.timeout_s:g} s. Give it more time, or fewer items."
            ) from error
        counts = manifest.summary
        return Completion(
            id=run_id,
            created=int(time.time()),
            model=request.model or ENGINE,
            choices=[
                Choice(
                    message=ChatMessage(
                        content=f"CodeWorld: items={counts['items']}, "
                        f"succeeded={counts['succeeded']}, failed={counts['failed']}"
                    ),
                    finish_reason="stop",
                )
            ],
            additional_kwargs={
                "codeworld": {
                    "summary": dict(counts),
                    "results": list(manifest.results),
                    "run_manifest": {
                        **manifest.head(),
                        "item_ids": [result["item_id"] for result in manifest.results],
                    },
                }
            },
        )


def job_of(request: ChatRequest, settings: Mapping[str, Json]) -> Job:
    """The job a request asks for; `UsageError` naming what is missing, unknown or doubled."""
    if request.model not in MODELS:
        raise UnknownModelError(
            f"CodeWorld has no model {request.model!r}; the model is {ENGINE!r}.",
            candidates=[ENGINE],
        )
    if request.messages:
        raise UsageError("CodeWorld works on items=[…], not on messages; leave messages out.")
    if request.stream:
        raise UnsupportedParamError("CodeWorld does not stream; leave stream out.", param="stream")
    params = request.params
    for name in params:
        if name not in PARAMS:
            raise UnsupportedParamError(
                f"CodeWorld has no parameter {name!r}; it has {', '.join(PARAMS)}.", param=name
            )
    items = params.get("items")
    if not isinstance(items, (list, tuple)) or not items:
        raise UsageError(
            "CodeWorld needs items=[{'task': …, 'context': {'code_variants': …, 'inputs': …, "
            f"'expected': …}}}}], but items is {type(items).__name__ if items else 'missing'}."
        )
    seed = params.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"seed must be a whole number, but is {seed!r}.")
    return Job(
        engine=ENGINE,
        items=[storable(item) for item in items],
        options=options_from(settings, _options(params)).to_dict(),
        seed=seed,
    )


def _options(params: Mapping[str, Json]) -> dict[str, Json]:
    options = params.get("options") or {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options must be a mapping, but is {options!r}.")
    direct = {name: params[name] for name in NAMES if name in params}
    doubled = sorted(set(options) & set(direct))
    if doubled:
        raise UsageError(f"{doubled[0]} is given directly and in options; give it once.")
    return {**options, **direct}
