"""Any server that speaks OpenAI's API: `POST {api_base}/chat/completions`, `…/embeddings`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from scillm.errors import UnsupportedParamError, UsageError
from scillm.http.wire import read_embeddings
from scillm.models import OpenAIRecord
from scillm.providers.http import HttpProvider
from scillm.providers.vectors import embedding_body, in_order
from scillm.records import HttpCall, evolve

if TYPE_CHECKING:
    from scillm.models import EmbeddingResponse
    from scillm.protocols import Host
    from scillm.records import ChatRequest, EmbeddingRequest, Endpoint, HttpReply, Json

PATH = "/chat/completions"
EMBEDDINGS = "/embeddings"


class OpenAILike(HttpProvider):
    """The providers `openai` and `openai_like`.

    `openai_like` needs `api_base` and uses a key only when one is given; `openai` has its base URL
    and key from the settings. A key from the settings is sent to the base URL of the settings only.
    """

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        super().__init__(resolved(endpoint, host.settings), host)
        self._url = chat_url(self.endpoint)
        self._headers = request_headers(self.endpoint)

    def prepare(self, request: ChatRequest) -> HttpCall:
        """The POST for `request`; `UnsupportedParamError` names a parameter that is not JSON."""
        body: dict[str, Json] = {
            "model": request.model,
            "messages": list(request.messages),
            **request.params,
        }
        if request.stream:
            body["stream"] = True
        return HttpCall(
            method="POST",
            url=self._url,
            headers=self._headers,
            body=encoded(body),
            timeout_s=request.timeout_s,
        )

    async def embed(self, request: EmbeddingRequest, /) -> EmbeddingResponse:
        """The vectors; raises as `complete` does."""
        call = HttpCall(
            method="POST",
            url=self.embeddings_url(),
            headers=self._headers,
            body=encoded(embedding_body(request)),
            timeout_s=request.timeout_s,
        )
        return await self.exchange(request, call, partial(self._vectors, request))

    def embeddings_url(self) -> str:
        """The URL to post texts to."""
        return self._url.removesuffix(PATH).removesuffix(EMBEDDINGS) + EMBEDDINGS

    def _vectors(self, request: EmbeddingRequest, reply: HttpReply) -> EmbeddingResponse:
        document = self.document(reply)
        self.refuse_error(document, reply.headers)
        return in_order(read_embeddings(document), request)


def resolved(endpoint: Endpoint, settings: Mapping[str, Json]) -> Endpoint:
    """`endpoint` with the base URL and key of the settings where it is the provider `openai`."""
    if endpoint.provider != "openai":
        return endpoint
    base = settings.get("openai_api_base")
    at_home = endpoint.api_base is None or endpoint.api_base.rstrip("/") == str(base).rstrip("/")
    key = endpoint.api_key or (settings.get("openai_api_key") if at_home else None)
    return evolve(endpoint, api_base=endpoint.api_base or base, api_key=key)


def chat_url(endpoint: Endpoint) -> str:
    """The URL to post to; `UsageError` when the endpoint has no base."""
    if not endpoint.api_base:
        raise UsageError(
            f"The provider {endpoint.provider!r} needs the base URL of the server: pass "
            'api_base="https://…/v1".'
        )
    base = endpoint.api_base.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def request_headers(endpoint: Endpoint) -> dict[str, str]:
    """Lower-case headers; the caller's own win over ours."""
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "gzip, deflate",
        "user-agent": user_agent(),
    }
    if endpoint.api_key:
        headers["authorization"] = f"Bearer {usable_key(endpoint.api_key)}"
    for name, value in endpoint.extra_headers.items():
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise UsageError(
                f"The header {name!r} must be printable ASCII text; its value is not shown here."
            )
        headers[name.lower()] = value
    return headers


def usable_key(key: str) -> str:
    """`key`, or `UsageError` when it is quoted, padded, or a whole line of an env file."""
    wrong = not key.isascii() or not key.isprintable() or " " in key
    if wrong or key[0] in "\"'" or "_API_KEY=" in key:
        raise UsageError(
            "The api_key is quoted, contains white space, or is a whole NAME=value line; "
            "pass the bare key. (It is not shown here.)"
        )
    return key


@cache
def user_agent() -> str:
    """Our name and version."""
    return f"scillm/{metadata.version('scillm-core')}"


def encoded(body: Mapping[str, Json]) -> bytes:
    """`body` as JSON; `UnsupportedParamError` names the first field that is not."""
    try:
        text = _dumps(body)
    except (TypeError, ValueError, RecursionError):
        for name, value in body.items():
            _refuse_unless_json(name, value)
        raise
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; JSON can still carry it as an escape.
        return json.dumps(body, default=_plain, allow_nan=False).encode()


def _refuse_unless_json(name: str, value: Json) -> None:
    try:
        _dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedParamError(
            f"The parameter {name!r} cannot be sent as JSON: {error}.", param=name
        ) from error


def _plain(value: Any) -> Json:
    if isinstance(value, OpenAIRecord):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


# One encoder for all requests: json.dumps would make a new one for each.
_dumps = json.JSONEncoder(
    default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode
