"""Answering one call of a Router: shaped, perhaps from the cache or checked as JSON, and flown."""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from attrs import define, field

from scillm.errors import UsageError
from scillm.records import ChatRequest, evolve
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.call import Call
from scillm.routing.changing import check_fallbacks
from scillm.routing.deterministic import made_deterministic
from scillm.routing.flight import Flight
from scillm.routing.images import ImagePolicy, check_images, inline_images
from scillm.routing.jsonmode import JsonMode, with_setting
from scillm.routing.opened import OpenStream
from scillm.routing.policy import FALLBACKS, fallback_rules
from scillm.routing.stamps import stamped
from scillm.routing.streams import AsyncCompletionStream

if TYPE_CHECKING:
    from scillm.errors import ScillmError
    from scillm.models import Completion, EmbeddingResponse
    from scillm.records import Json
    from scillm.routing.caching import Caching
    from scillm.routing.fallback import FallbackRules
    from scillm.routing.hosting import Hosting
    from scillm.routing.legs import Leg
    from scillm.routing.planning import Planner
    from scillm.routing.rules import RuleBook
    from scillm.routing.spending import Spending
    from scillm.routing.stamps import CallRecord


class Determinism:
    """The last word on sampling parameters. Remembers whether it has warned."""

    def __init__(self) -> None:
        self._warned = False

    def fixed(self, params: Mapping[str, Json]) -> Mapping[str, Json]:
        """`params` with sampling fixed; the first time that overrides a value, a warning."""
        fixed, changed = made_deterministic(params)
        if changed and not self._warned:
            self._warned = True
            warnings.warn(
                f"Deterministic mode overrides {', '.join(changed)}.", UserWarning, stacklevel=4
            )
        return fixed


@define(kw_only=True)
class Answering:
    """What a Router's calls share. Holds its parts."""

    hosting: Hosting
    caching: Caching
    spending: Spending
    planner: Planner
    rule_book: RuleBook
    fallbacks: FallbackRules
    image_policy: ImagePolicy
    determinism: Determinism | None = None
    continues: bool = False
    """Whether a stream that breaks goes on with a fallback's words."""
    _emit: Any = field(init=False)
    _retry_meta: bool | None = field(default=None, init=False)
    """Worked out once, because every call asks."""

    def __attrs_post_init__(self) -> None:
        self._emit = self.hosting.hooks.emit
        self._check(self.fallbacks)

    # -- shaping -------------------------------------------------------------------------------

    def read(self, given: Mapping[str, Any]) -> Arguments:
        """A call's arguments, checked; images that are too large may still have to be made fit."""
        call = sorted_arguments(given)
        check_images(call.messages, self.image_policy)
        if self.determinism is not None:
            call = evolve(call, params=self.determinism.fixed(call.params))
        return call

    def makes_fit(self, call: Arguments) -> bool:
        """Whether `fitted` has something to do."""
        return self.image_policy.mode == "downscale" and any(
            True for _ in inline_images(call.messages)
        )

    async def fitted(self, call: Arguments) -> Arguments:
        """The call with its images made small enough, in a thread."""
        from scillm.routing.fitting import fitted

        work = partial(fitted, call.messages, self.image_policy)
        messages, done = await to_thread.run_sync(work)
        return evolve(call, messages=messages, notes={"images": done}) if done else call

    def _check(self, rules: FallbackRules) -> None:
        strict = self.image_policy
        if strict.mode == "downscale":
            strict = evolve(strict, mode="reject")
        check_fallbacks(rules, lambda messages: check_images(messages, strict))

    # -- whole answers -------------------------------------------------------------------------

    def whole(self, arguments: Arguments) -> Awaitable[Completion]:
        """The answer, from the cache where there is one, and checked where it was asked for."""
        if arguments.json_mode is not None:
            return self._checked_json(arguments, arguments.json_mode)
        wanted = arguments.params.get("response_format") if arguments.params else None
        return self._answer(arguments) if wanted is None else self._judged(arguments, wanted)

    async def _judged(self, arguments: Arguments, wanted: Json) -> Completion:
        from scillm.structured.verdict import judged, wants_json

        answer = await self._answer(arguments)
        if not wants_json(wanted):
            return answer
        return judged(answer, wanted, sanitize=bool(self._settings().get("json_sanitize")))

    async def _answer(self, arguments: Arguments) -> Completion:
        cache = self.caching.cache(arguments.cache)
        if cache is None or any(name.startswith("mock_") for name in arguments.policy):
            return (await self._asked(arguments))[0]
        model = self._model(arguments)
        return await self.caching.through(
            cache,
            arguments,
            model=model,
            identity=self.planner.identity(arguments, model),
            ask=partial(self._asked, arguments),
        )

    async def _asked(self, arguments: Arguments) -> tuple[Completion, int]:
        call = self._call(arguments)
        leg, completion = await call.fly(
            self.spending.asking(_complete, arguments.account, arguments.notes)
        )
        record = call.record(leg)
        return stamped(completion, record), record.fallbacks

    async def _checked_json(self, arguments: Arguments, asked: JsonMode) -> Completion:
        from scillm.structured.loop import complete_json

        mode = with_setting(asked, self._settings())
        request = ChatRequest(
            model=arguments.model or "",
            messages=arguments.messages,
            params=arguments.params,
            stream=arguments.stream,
        )

        async def ask(shaped: ChatRequest) -> Completion:
            return await self._answer(
                evolve(arguments, messages=shaped.messages, params=shaped.params)
            )

        return await complete_json(
            ask,
            request,
            response_format=mode.response_format,
            repair_rounds=mode.repair_rounds,
            sanitize=mode.sanitize,
        )

    # -- streams -------------------------------------------------------------------------------

    async def streamed(self, arguments: Arguments) -> AsyncCompletionStream:
        """The answer as a stream, once its first chunk has come."""
        call = self._call(arguments)
        ask = self.spending.asking(OpenStream.begin, arguments.account, arguments.notes)
        leg, source = await call.fly(ask)

        async def go_on(
            error: ScillmError, partial: Completion
        ) -> tuple[CallRecord, OpenStream] | None:
            found = await call.go_on(error, partial, ask)
            return found and (call.record(found[0], reply=found[1].side), found[1])

        record = call.record(leg, reply=source.side)
        return AsyncCompletionStream(record, source, go_on if self.continues else None)

    # -- vectors -------------------------------------------------------------------------------

    async def embedded(self, given: Mapping[str, Any]) -> EmbeddingResponse:
        """The vectors a call asks for."""
        from scillm.routing.embedding import embed, embedding_arguments

        arguments = embedding_arguments(given)
        call = self._call(arguments)
        leg, answer = await call.fly(self.spending.asking(embed, arguments.account))
        return stamped(answer, call.record(leg))

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, arguments: Arguments) -> Call:
        model = self._model(arguments)
        hooks = self.hosting.hooks
        flight = Flight(
            model=model,
            call_id=os.urandom(8).hex(),
            rules=self.rule_book.rules(arguments),
            emit=self._emit if hooks.hears("scillm_event") else None,
        )
        fallbacks = fallback_rules(arguments.policy, model=model, base=self.fallbacks)
        if arguments.policy and any(name in arguments.policy for name in FALLBACKS):
            self._check(fallbacks)
        return Call(
            flight=flight,
            model=model,
            arguments=arguments,
            fallbacks=fallbacks,
            legs_for=self.planner.legs,
            emit=self._emit,
            with_retries=self._with_retries(),
        )

    def _model(self, arguments: Arguments) -> str:
        model: str | None = arguments.model or self._settings().get("default_model")
        if not model:
            raise UsageError("No model was named: pass model=…, or set SCILLM_DEFAULT_MODEL.")
        return model

    def _with_retries(self) -> bool:
        if self._retry_meta is None:
            self._retry_meta = bool(self._settings().get("retry_meta"))
        return self._retry_meta

    def _settings(self) -> Mapping[str, Json]:
        return self.hosting.host().settings


def _complete(leg: Leg) -> Awaitable[Completion]:
    assert isinstance(leg.request, ChatRequest)
    return leg.provider().complete(leg.request)
