"""The chat server: OpenAI's Chat Completions API in front of a Provider, a Router or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from scillm.serve.chat_answers import Answer, Answers, Routes
from scillm.serve.chat_handlers import ChatHandlers, ChatLimits, Models
from scillm.serve.chat_openapi import CHAT_PATHS, chat_document
from scillm.serve.front_doors import Ready, front_doors, version
from scillm.serve.guard import Guard
from scillm.serve.metrics import Metrics
from scillm.serve.problems import Problem, problem_of
from scillm.serve.web import Route, Starlette, application

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from scillm.errors import ScillmError
    from scillm.protocols import Provider
    from scillm.records import ChatRequest
    from scillm.serve.openapi import Operation


def chat_app(
    answer: Provider | Routes | Answer,
    *,
    models: Models,
    accepts: Callable[[str], bool] | None = None,
    shows: Callable[[str], bool] | None = None,
    token: str | None = None,
    ready: Ready | None = None,
    limits: ChatLimits | None = None,
    name: str = "scillm",
    headers: Callable[[ChatRequest], Mapping[str, str]] | None = None,
    problem: Callable[[ScillmError], Problem] | None = None,
    hosts: Sequence[str] = (),
    routes: Sequence[Route] = (),
    operations: Sequence[Operation] = (),
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """An ASGI app that answers chat requests with `answer`.

    `models` are listed and, unless `accepts` says otherwise, the only ones answered; others get
    404. `shows` says which further ones `/v1/models/ID` knows (default: those `accepts` takes).
    `headers` gives further headers for the answer to a request, `problem` says what one of
    our errors is to a client. `routes`, described by `operations`, stand beside the server's own,
    behind the same token; `lifespan` runs around the server. Without `token` only callers of this
    machine, and of the names `hosts`, are answered.
    """
    counted = metrics or Metrics()
    chat = ChatHandlers(
        Answers(answer),
        models=models,
        accepts=accepts,
        shows=accepts if shows is None else shows,
        limits=limits or ChatLimits(),
        headers=headers or _no_headers,
        problem=problem or partial(problem_of, secrets=(token,) if token else ()),
        metrics=counted,
        name=name,
    )
    guard = Guard(token=token, hosts=hosts)
    described = chat_document(name, version=version(), secured=bool(token), more=operations)
    return application(
        [
            *front_doors(
                guard=guard,
                metrics=counted,
                about={"server": name},
                openapi=described,
                ready=ready,
            ),
            *(Route(path, chat.complete, methods=["POST"]) for path in CHAT_PATHS),
            Route("/v1/models", chat.list_models, methods=["GET"]),
            Route("/v1/models/{id:path}", chat.show_model, methods=["GET"]),
            *routes,
        ],
        guard=guard,
        metrics=counted,
        lifespan=lifespan,
    )


def _no_headers(_request: ChatRequest) -> Mapping[str, str]:
    return {}


__all__ = ["ChatLimits", "Models", "chat_app"]
