"""The provider `codex-agent`: a Codex sidecar, or any server that speaks its API, over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import MalformedReplyError, UsageError
from scillm.providers.http import HttpProvider
from scillm.providers.openai_like import chat_url, encoded, request_headers
from scillm.records import HttpCall, evolve

from scillm_codex.modelnames import bare_model

if TYPE_CHECKING:
    from scillm.protocols import Host
    from scillm.records import ChatRequest, Endpoint, Json

log = logging.getLogger("scillm.codex")

NO_BASE = (
    "The provider 'codex-agent' needs the address of a sidecar: pass "
    'api_base="http://127.0.0.1:8077" or set CODEX_AGENT_API_BASE. `scillm codex serve` starts one.'
)
MODELS_S = 30.0


class CodexAgent(HttpProvider):
    """Sends chat requests to the sidecar as they are. Remembers the endpoint."""

    def __init__(self, endpoint: Endpoint, host: Host) -> None:
        super().__init__(resolved(endpoint, host.settings), host)
        self._url = chat_url(self.endpoint)
        self._headers = request_headers(self.endpoint)

    def prepare(self, request: ChatRequest) -> HttpCall:
        """The POST for `request`, with its parameters as they were given."""
        body: dict[str, Json] = {
            "model": bare_model(request.model),
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

    async def models(self) -> Sequence[str]:
        """Ids in the order of the sidecar."""
        call = HttpCall(
            method="GET",
            url=f"{self.endpoint.api_base}/models",
            headers=self._headers,
            timeout_s=MODELS_S,
        )
        reply = await self.host.transport.send(call)
        if reply.status >= 300:
            raise self.refusal(reply)
        document = self.document(reply)
        found = document.get("data") if isinstance(document, Mapping) else None
        rows = found if isinstance(found, list) else [None]
        ids: list[Json] = [row.get("id") if isinstance(row, Mapping) else None for row in rows]
        if not all(isinstance(name, str) for name in ids):
            shown = json.dumps(document)[:200]
            raise MalformedReplyError(f"A list of models with ids was wanted, but {shown} came.")
        return ids


def resolved(endpoint: Endpoint, settings: Mapping[str, Json]) -> Endpoint:
    """`endpoint` with base and key from the settings; `UsageError` without a base.

    The key of the settings goes to the base of the settings only.
    """
    home = settings.get("codex_agent_api_base")
    given = endpoint.api_base or home
    if not given:
        raise UsageError(NO_BASE)
    base = root_of(given)
    at_home = home is not None and root_of(home, quiet=True) == base
    key = endpoint.api_key or (settings.get("codex_agent_api_key") if at_home else None)
    return evolve(endpoint, api_base=f"{base}/v1", api_key=key)


def root_of(base: str, *, quiet: bool = False) -> str:
    """`base` without a slash at its end and without `/v1`, which is told of in the log."""
    root = base.rstrip("/")
    if not root.endswith("/v1"):
        return root
    if not quiet:
        log.warning("The base of codex-agent is written without /v1; it was taken off %s.", base)
    return root[: -len("/v1")].rstrip("/")
