"""Answers from the response cache: looked up before a call, kept after it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import current_token
from attrs import define, field

from scillm.errors import SchemaError, UsageError
from scillm.events import CacheFaulted
from scillm.routing.cachewish import OFF, Wish
from scillm.runs.cache import ResponseCache, make_cache, process_cache
from scillm.runs.cache_rows import is_whole, key_of

if TYPE_CHECKING:
    from scillm.events import Event
    from scillm.models import Completion
    from scillm.records import Json
    from scillm.routing.arguments import Arguments
    from scillm.runs.cache_rows import Kept


@define
class _Turn:
    """A request in the air that others wait for. Remembers what came of it."""

    over: anyio.Event = field(factory=anyio.Event)
    kept: Kept | None = None
    was_cancelled: bool = False


class Caching:
    """The cache of a Router. Remembers whether it made it, and who asks what now."""

    def __init__(self, given: Any, *, emit: Callable[[Event], None]) -> None:
        self._own: ResponseCache | None = None
        self._is_off = given is False
        self._is_made = isinstance(given, (str, Mapping))
        self._emit = emit
        self._turns: dict[tuple[object, str], _Turn] = {}
        if isinstance(given, ResponseCache):
            self._own = given
        elif isinstance(given, str):
            self._own = make_cache(given)
        elif isinstance(given, Mapping):
            self._own = _made(given)
        elif given is True:
            self._own = process_cache() or make_cache()
        elif given is not None and given is not False:
            raise UsageError(
                "cache must be a ResponseCache, the name or object of one, True or False, "
                f"but is {given!r}."
            )

    def cache(self, wish: Wish | None) -> ResponseCache | None:
        """The cache for a call, or None when it has none or wants none."""
        if self._is_off or (wish is not None and wish == OFF):
            return None
        found = self._own or process_cache()
        if found is None and wish is not None and (wish.ttl_s or wish.max_age_s or wish == Wish()):
            raise UsageError(
                "The call asks for the response cache, but there is none: call "
                "scillm.initialize_cache(…), or make the Router with cache=…."
            )
        return found

    def close(self) -> None:
        """Close a cache that the Router made itself; the next call opens it again."""
        if self._own is not None and self._is_made:
            self._own.close()

    async def through(
        self,
        cache: ResponseCache,
        call: Arguments,
        *,
        model: str,
        identity: Json,
        ask: Callable[[], Awaitable[tuple[Completion, int]]],
    ) -> Completion:
        """The kept answer to `call`, else that of `ask`, which is kept when it is whole.

        `ask` also says how often the call fell back: another group's answer is not kept as this
        one's.
        """
        wish = call.cache or Wish()
        key = key_of(
            model=model,
            identity=identity,
            messages=call.messages,
            params=call.params,
            namespace=cache.namespace if wish.namespace is None else wish.namespace,
        )
        if key is None:
            return (await ask())[0]

        def fault(reason: str) -> None:
            self._emit(CacheFaulted(key=key, reason=reason))

        if wish.read:
            kept = await cache.find(key, max_age_s=wish.max_age_s, fault=fault)
            if kept is not None:
                return _stamped(_hit(kept, key, model), call.notes)

        async def asked() -> tuple[Completion, Kept | None]:
            completion, fell_back = await ask()
            new = None
            is_mock = completion.scillm_meta.get("mock")
            is_its_own = wish.write and not fell_back and not is_mock
            if is_its_own and is_whole(completion) and _keeps_format(completion, call.params):
                new = await cache.keep(
                    key, completion, ttl_s=wish.ttl_s, source=_source(completion), fault=fault
                )
            return _stamped(completion, {"cache_hit": False}), new

        if not (cache.single_flight and wish.read and wish.write):
            return (await asked())[0]
        return _stamped(await self._in_turn(key, model, asked), call.notes)

    async def _in_turn(
        self,
        key: str,
        model: str,
        asked: Callable[[], Awaitable[tuple[Completion, Kept | None]]],
    ) -> Completion:
        """Ask, unless the same is being asked on this event loop; then take that answer."""
        place = (current_token(), key)
        while (turn := self._turns.get(place)) is not None:
            await turn.over.wait()
            if turn.kept is not None:
                return _hit(turn.kept, key, model)
            if not turn.was_cancelled:
                # It failed, or its answer cannot be kept: all who waited ask for themselves.
                return (await asked())[0]
        turn = self._turns[place] = _Turn()
        try:
            completion, turn.kept = await asked()
        except anyio.get_cancelled_exc_class():
            turn.was_cancelled = True
            raise
        finally:
            del self._turns[place]
            turn.over.set()
        return completion


def _made(given: Mapping[str, Any]) -> ResponseCache:
    known = signature(make_cache).parameters
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise UsageError(f"cache has no {', '.join(unknown)}; it knows {', '.join(known)}.")
    try:
        return make_cache(**given)
    except TypeError as error:
        raise UsageError(f"cache cannot be made of {sorted(given)}: {error}.") from error


def _source(completion: Completion) -> dict[str, Json]:
    meta = completion.scillm_meta
    return {name: meta.get(name) for name in ("resolved_model", "provider", "endpoint")}


def _hit(kept: Kept, key: str, model: str) -> Completion:
    meta = {
        "requested_model": model,
        "served_model": kept.completion.model or None,
        **kept.source,
        "attempts": [],
        "cache_hit": True,
        "cache_key": key,
        "cached_at": kept.at,
        "response_cost": 0.0,
    }
    return _stamped(kept.completion, meta)


def _stamped(completion: Completion, meta: Mapping[str, Json]) -> Completion:
    side = {**completion.additional_kwargs.get("scillm", {}), **meta}
    return completion.with_additional({**completion.additional_kwargs, "scillm": side})


def _keeps_format(completion: Completion, params: Mapping[str, Json]) -> bool:
    """Whether an answer that was to be JSON of a schema is that; another is not kept."""
    wanted = params.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind not in ("json_object", "json_schema") or completion.choices[0].message.tool_calls:
        return True
    try:
        value = json.loads(completion.text)
    except (ValueError, RecursionError):
        return False
    inner = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping):
        return True
    from scillm.structured.schema import check

    try:
        check(value, schema)
    except (SchemaError, UsageError):
        return False
    return True
