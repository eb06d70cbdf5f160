"""The fake's mind: from a request to a reply, with everything it saw written down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from attrs import evolve

from scillm_chutes.fake.accounts import KEY, FakeAccount
from scillm_chutes.fake.inference import chat, embed
from scillm_chutes.fake.judging import document_of, masked, without_keys, wrong_in
from scillm_chutes.fake.management import management
from scillm_chutes.fake.replies import Document, Refusal, Reply, Seen, broken

if TYPE_CHECKING:
    from scillm_chutes.fake.models import FakeModel


class Site:
    """Accounts, models and modes of one fake. Remembers every request."""

    def __init__(
        self,
        models: Iterable[FakeModel],
        accounts: Iterable[FakeAccount],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.models = {model.id: model for model in models}
        self.accounts = {account.key: account for account in accounts}
        self.clock = clock
        self.aliases: dict[str, list[str]] = {}
        self.feed_mode = ""
        """ok, or: error, html, empty, truncated."""
        self.feed_age_s = 0.0
        self.feed_extra: list[dict[str, Any]] = []
        self.catalog_mode = ""
        self.edge_mode = ""
        """forbidden (HTML 403) or timeout (HTML 504) for every inference call."""
        self.inject: dict[str, str] = {}
        """Headers added to refusals, such as retry-after, for generic tests."""
        self.seen: list[Seen] = []
        self.lock = threading.RLock()

    # -- asking --------------------------------------------------------------------------------

    def reply(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What to answer; the request is written down first."""
        with self.lock:
            host, path, query, slug = _place(target, headers.get("host", ""))
            account, refusal = self._who(headers)
            document = document_of(body)
            inference = method == "POST" and host != "api"
            wrong = wrong_in(headers, document) if inference else []
            self.seen.append(
                Seen(
                    method=method,
                    host=host,
                    path=path,
                    headers=masked(headers),
                    body=without_keys(document),
                    at=self.clock(),
                    account=account.label if account else "",
                    wrong=tuple(wrong),
                )
            )
            if host == "api":
                return management(self, path, query, account)
            if method == "GET" and path == "/v1/models" and host in ("llm", "slug"):
                return self._catalog()
            if not inference:
                return Refusal(status=404, detail="No matching cord found!")
            return self._inference(
                host, path, account, refusal, headers, self._at_slug(slug, document)
            )

    def _who(self, headers: Mapping[str, str]) -> tuple[FakeAccount | None, Refusal | None]:
        given = headers.get("authorization", "").split(" ")[-1]
        if not given:
            return None, Refusal(status=429, title="429 Too Many Requests")
        if given.startswith("cak_"):
            detail = "Token does not have permission for this resource"
            return None, Refusal(status=403, detail=detail)
        if not given.startswith("cpk_"):
            return None, Refusal(status=401, detail="Invalid token.")
        if not KEY.fullmatch(given):
            detail = "Missing or invalid authorization header(s)"
            return None, Refusal(status=401, detail=detail)
        account = self.accounts.get(given)
        if account is None:
            return None, Refusal(status=401, detail="Invalid token or user not found")
        return account, None

    def _inference(
        self,
        host: str,
        path: str,
        account: FakeAccount | None,
        refusal: Refusal | None,
        headers: Mapping[str, str],
        body: Any,
    ) -> Reply:
        if account is not None and not account.admit(self.clock()):
            self.note("asked during a ban or over the limit")
            return Refusal(status=429, title="429 Too Many Requests", headers=self.inject)
        if account is None:
            return refusal or Refusal(status=401, detail="Authentication required.")
        if self.edge_mode == "forbidden":
            return Refusal(status=403, title="403 Forbidden", headers={"via": "1.1 google"})
        if self.edge_mode == "timeout":
            return Refusal(status=504, title="504 Gateway Time-out")
        if not isinstance(body, dict):
            return Refusal(status=400, detail="Invalid request body")
        if path == "/v1/embeddings" and host in ("embed", "slug"):
            return embed(self, account, headers, body)
        if path != "/v1/chat/completions" or host == "embed":
            return Refusal(status=404, detail="No matching cord found!")
        return chat(self, account, headers, body)

    def _at_slug(self, slug: str, body: Any) -> Any:
        """A chute's own host serves that chute, whatever the body calls it."""
        if not slug or not isinstance(body, dict):
            return body
        return {**body, "model": next((m.id for m in self.models.values() if m.slug == slug), slug)}

    # -- for the other modules -----------------------------------------------------------------

    def note(self, wrong: str) -> None:
        """The newest request should not have been sent."""
        self.seen[-1] = evolve(self.seen[-1], wrong=(*self.seen[-1].wrong, wrong))

    def by_name(self, name: str) -> FakeModel | None:
        """The public chute of that name, id or slug."""
        found = (m for m in self.models.values() if name in (m.id, m.chute_id, m.slug))
        return next((model for model in found if model.public), None)

    def warmed(self, model: FakeModel) -> bool:
        """Whether a model that is being warmed up is hot by now."""
        with self.lock:
            if model.state == "hot":
                return True
            if model.warm_at is None:
                model.warm_at = self.clock() + model.warms_in_s
            if self.clock() < model.warm_at:
                return False
            model.state, model.instances, model.warm_at = "hot", max(1, model.instances), None
            return True

    def _catalog(self) -> Reply:
        if self.catalog_mode:
            return broken(self.catalog_mode)
        rows = [m.catalog_row() for m in self.models.values() if m.in_catalog and m.public]
        return Document(value={"object": "list", "data": rows})


def _place(target: str, host_header: str) -> tuple[str, str, Mapping[str, list[str]], str]:
    """Host, path, query and slug that are meant, by path prefix or by name."""
    parts = urlsplit(target)
    path, query = parts.path, parse_qs(parts.query)
    for prefix in ("llm", "api", "embed", "image"):
        if path.startswith(f"/_{prefix}/"):
            return prefix, path[len(prefix) + 2 :], query, ""
    if path.startswith("/_slug/"):
        _, _, slug, *rest = path.split("/")
        return "slug", "/" + "/".join(rest), query, slug
    host = host_header.split(":")[0].lower()
    name = host.removesuffix(".chutes.ai")
    if name == host or name in ("llm", "api", "embed", "image"):
        return "llm" if name == host else name, path, query, ""
    return "slug", path, query, name
