"""CodeWorld as a provider: `completion(model="codeworld", items=…)`, here or at a bridge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
from scillm.errors import (
    EngineError,
    PluginLoadError,
    UnknownModelError,
    UnsupportedParamError,
    UsageError,
)
from scillm.models import ChatMessage, Choice, Completion
from scillm.plugins.groups import STRATEGIES
from scillm.providers.bridge import QUEUE_S, BridgeEngine
from scillm.records import Job

from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.generate.wish import AUTOGENERATE
from scillm_codeworld.items import storable
from scillm_codeworld.options import NAMES, SUGAR
from scillm_codeworld.record.familiar import run_manifest
from scillm_codeworld.record.kept import manifest_for, signals_of
from scillm_codeworld.record.sessions import session_id
from scillm_codeworld.records import ENGINE
from scillm_codeworld.settings import AUTO_API_BASE, options_from, seed_from

if TYPE_CHECKING:
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, JobResult, Json
    from scillm.runs.record import Record
    from scillm.search.solve import Proposer

SESSION = ("session_id", "track_id")
GENERATOR = "generator"
PARAMS = ("items", "options", "seed", GENERATOR, *SESSION, *NAMES, *SUGAR)
MODELS = frozenset({"", ENGINE})
AUTO = (":auto", "+auto")
HERE = "here"
"""As `api_base`: this process, even where CODEWORLD_BASE names a bridge."""


class CodeWorld:
    """Runs jobs in this process, or at a bridge; also an `Engine`. Remembers its host's settings.

    Parameters: `items` (required), `seed`, `generator` (the Router or Provider that is asked for
    programs), and the options by name or as one mapping `options`.

    The bridge at `api_base` is used, else the one at CODEWORLD_BASE, else none. `api_base="here"`
    is this process, whatever the environment says. The token is `api_key`, else CODEWORLD_TOKEN.
    """

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        self._settings = host.settings
        self._plugins = host.plugins
        self._emit = host.emit
        self._engine = self._asking(None)
        self._transport = host.transport
        self._token = endpoint.api_key
        self._base = endpoint.api_base
        if not endpoint.api_base:
            self._base = host.settings.get("codeworld_base")
            # A token of the environment goes to the place that the environment names, and no other.
            self._token = endpoint.api_key or host.settings.get("codeworld_token")
        if self._base == HERE:
            self._base = None

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item of `job`; a malformed item fails alone."""
        if self._base:
            return await self._bridge(None).run(job)
        return await self._engine.run(job)

    async def run_recorded(self, job: Job, record: Record, /) -> JobResult:
        """As `run`, always in this process, asking `record` before executing anything."""
        return await self._engine.run_recorded(job, record)

    def _asking(self, generator: Proposer | None) -> CodeWorldEngine:
        return CodeWorldEngine(emit=self._emit, find=self._strategy, generator=generator)

    def _bridge(self, timeout_s: float | None) -> BridgeEngine:
        return BridgeEngine(
            str(self._base), self._transport, token=self._token, timeout_s=timeout_s
        )

    def _strategy(self, name: str) -> Callable[..., object]:
        factory = self._plugins.get(STRATEGIES, name)
        if not callable(factory):
            raise PluginLoadError(f"The strategy {name!r} is a {factory!r}, which builds nothing.")
        return factory

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Run the request's items; the whole result is in `additional_kwargs["codeworld"]`.

        Raises `UsageError` for a request that is not one, `EngineError` after `timeout_s`, and
        what `BridgeEngine.run` raises where there is a bridge.
        """
        strategies = self._plugins.names(STRATEGIES)
        if self._base:
            told = await self._afar(request, strategies)
        else:
            told = await self._here(request, strategies)
        counts, run_id = told["summary"], told["run_manifest"].get("run_id", "")
        return Completion(
            id=run_id,
            created=int(time.time()),
            model=request.model or ENGINE,
            choices=[
                Choice(
                    message=ChatMessage(
                        content=f"CodeWorld: items={counts.get('items')}, "
                        f"succeeded={counts.get('succeeded')}, failed={counts.get('failed')}"
                    ),
                    finish_reason="stop",
                )
            ],
            additional_kwargs={"codeworld": told},
        )

    async def _here(self, request: ChatRequest, strategies: Sequence[str]) -> dict[str, Json]:
        session = _session(request.params)
        job = job_of(request, self._settings, strategies=strategies)
        generator = request.params.get(GENERATOR)
        engine = self._engine if generator is None else self._asking(generator)
        try:
            with anyio.fail_after(request.timeout_s):
                manifest = await manifest_for(engine, job, self._settings, keep=False)
        except TimeoutError as error:
            raise EngineError(
                f"The job of {len(job.items)} items was not done within timeout="
                f"{request.timeout_s:g} s. Give it more time, or fewer items."
            ) from error
        return {
            "summary": dict(manifest.summary),
            "results": list(manifest.results),
            "run_manifest": run_manifest(manifest, ts=time.time(), session=session),
            "signals": await signals_of(session, manifest, self._settings),
        }

    async def _afar(self, request: ChatRequest, strategies: Sequence[str]) -> dict[str, Json]:
        items, options = asked_of(request, strategies=strategies)
        if request.params.get(GENERATOR) is not None:
            raise UsageError(
                "A generator cannot be sent to a bridge, which asks its own Router. Leave it out, "
                'or run here with api_base="here".'
            )
        session = {name: value for name, value in _session(request.params).items() if value}
        limit_s = request.timeout_s
        job = Job(
            engine=ENGINE,
            items=items,
            options={**options, **session, "max_seconds": limit_s},
            seed=seed_from(self._settings, request.params.get("seed")),
        )
        result = await self._bridge(limit_s + QUEUE_S).run(job)
        environment = dict(result.environment)
        return {
            "summary": dict(result.summary),
            "results": list(result.results),
            "run_manifest": dict(environment.get("run_manifest") or {}),
            "signals": environment.get("signals"),
            "notes": environment.get("notes") or [],
        }


def job_of(
    request: ChatRequest, settings: Mapping[str, Json], *, strategies: Sequence[str] = ()
) -> Job:
    """The job a request asks for, with every option spelt out; `UsageError` as `asked_of`."""
    items, options = asked_of(request, strategies=strategies)
    if request.params.get(GENERATOR) is not None:  # given by the caller, so it wins
        settings = {**settings, AUTO_API_BASE: None}
    return Job(
        engine=ENGINE,
        items=items,
        options=options_from(settings, options).to_dict(),
        seed=seed_from(settings, request.params.get("seed")),
    )


def asked_of(
    request: ChatRequest, *, strategies: Sequence[str] = ()
) -> tuple[list[Json], dict[str, Json]]:
    """The items and options of a request; `UsageError` for what is missing, unknown or doubled.

    The model `codeworld/mcts` is short for `strategy="mcts"`, and so for every strategy;
    `codeworld/mcts:auto` (or `mcts+auto`) has programs written by a model as well.
    """
    named, auto = strategy_in(request.model, strategies)
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
    options = _options(params)
    if named is not None:
        if options.get("strategy", named) != named:
            raise UsageError(
                f"The model asks for the strategy {named!r}, and strategy for "
                f"{options['strategy']!r}; give one."
            )
        options["strategy"] = named
    if auto:
        if options.get(AUTOGENERATE) is False:
            raise UsageError(
                f"The model {request.model!r} asks for generated programs, and autogenerate=False "
                "for none; give one."
            )
        options[AUTOGENERATE] = options.get(AUTOGENERATE) or True
    return [storable(item) for item in items], options


def strategy_in(model: str, strategies: Sequence[str]) -> tuple[str | None, bool]:
    """The strategy that a model's name asks for, if any, and whether it asks to generate.

    `UnknownModelError` for another name.
    """
    if model in MODELS:
        return None, False
    name = model.removeprefix(f"{ENGINE}/")
    plain = next((name.removesuffix(end) for end in AUTO if name.endswith(end)), None)
    if (plain or name) in strategies:
        return plain or name, plain is not None
    candidates = [ENGINE, *(f"{ENGINE}/{known}" for known in strategies)]
    raise UnknownModelError(
        f"CodeWorld has no model {model!r}; it has {', '.join(candidates)}, each strategy also "
        "with :auto behind it.",
        candidates=candidates,
    )


def _session(params: Mapping[str, Json]) -> dict[str, str | None]:
    """The session and track of a request, given directly or among its options."""
    options = params.get("options")
    among = options if isinstance(options, Mapping) else {}
    return {name: session_id(params.get(name, among.get(name)), name=name) for name in SESSION}


def _options(params: Mapping[str, Json]) -> dict[str, Json]:
    options = params.get("options") or {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options must be a mapping, but is {options!r}.")
    options = {name: value for name, value in options.items() if name not in SESSION}
    direct = {name: params[name] for name in (*NAMES, *SUGAR) if name in params}
    doubled = sorted(set(options) & set(direct))
    if doubled:
        raise UsageError(f"{doubled[0]} is given directly and in options; give it once.")
    return {**options, **direct}
