"""A sidecar on the real Codex CLI, in front of the local Responses service, on a real socket."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scillm_codex.sidecar.app import Sidecar, sidecar_app
from scillm_codex.sidecar.binary import find_binary, with_version
from scillm_codex.sidecar.home import Upstream

from support.codex_cli import codex_root, need_codex
from support.codex_service import KEY, CodexService
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator


def upstream_of(service: CodexService, *, retries: int = 0) -> Upstream:
    """The service as Codex's upstream."""
    return Upstream(base_url=service.base_url, api_key=KEY, retries=retries)


@contextmanager
def codex_sidecar(service: CodexService | None, **options: Any) -> Iterator[str]:
    """The base URL of a sidecar in front of `service`; `options` are fields of `Sidecar`."""
    binary = with_version(find_binary(need_codex()))
    upstream = None if service is None else upstream_of(service)
    given = {"upstream": upstream, "model": "fake-plain", **options}
    with codex_root() as root:
        sidecar = Sidecar(**{"root": root, "binary": binary, **given})
        with served(sidecar_app(sidecar)) as url:
            yield url
