"""The fake's mind: from a request to a reply, with everything it saw written down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from attrs import evolve, field, frozen

from scillm_chutes.fake.accounts import KEY, FakeAccount, key_label
from scillm_chutes.fake.answers import embeddings, page

if TYPE_CHECKING:
    from scillm_chutes.fake.models import FakeModel

CAPACITY = "Infrastructure is at maximum capacity, try again later"
TROUBLES: Mapping[str, tuple[int, Any]] = {
    "daily quota": (402, {"message": "Quota exceeded and account balance is $0.0"}),
    "window": (402, "Subscription usage cap exceeded. Please add balance to continue."),
    "free quota": (
        429,
        "Free models limit reached for today - maintain >= $10 balance to unlock more requests",
    ),
    "minute": (429, "Rate limit exceeded. Try again later."),
    "tier": (402, "Model unavailable to your subscription tier"),
}
FOREIGN = frozenset(
    {
        *("api_base", "api_key", "custom_llm_provider", "extra_headers", "timeout", "order"),
        *("retry_after", "max_retries", "retry_enabled", "metadata_scillm", "_sc_no_canon"),
    }
)
"""Arguments of SDKs that must never reach the service."""


@frozen(kw_only=True)
class Seen:
    """One request as it came. `wrong` names what a good client would not have done.

    The key is replaced by a label, in headers and body.
    """

    method: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float
    account: str = ""
    wrong: tuple[str, ...] = ()


@frozen(kw_only=True)
class Refusal:
    """A reply that is no answer: a status with a JSON detail, or a page of the edge."""

    status: int
    detail: Any = None
    title: str = ""
    headers: Mapping[str, str] = field(factory=dict)

    @property
    def content_type(self) -> str:
        """What the body is."""
        return "text/html" if self.title else "application/json"

    @property
    def body(self) -> bytes:
        """The bytes sent."""
        return page(self.title) if self.title else json.dumps({"detail": self.detail}).encode()


@frozen(kw_only=True)
class Document:
    """A JSON reply, or with `raw` any bytes."""

    value: Any = None
    raw: bytes | None = None
    content_type: str = "application/json"


@frozen(kw_only=True)
class WarmUp:
    """A warm-up stream of one model."""

    model: FakeModel


@frozen(kw_only=True)
class Answer:
    """A model takes the call; `served` is its id."""

    model: FakeModel
    body: Mapping[str, Any]
    account: FakeAccount
    served: str
    fault: str = ""


Reply = Refusal | Document | WarmUp | Answer


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
            host, path, query = _place(target, headers.get("host", ""))
            account, refusal = self._who(headers)
            document = _document(body)
            inference = method == "POST" and host != "api"
            wrong = _wrong(headers, document) if inference else []
            self.seen.append(
                Seen(
                    method=method,
                    host=host,
                    path=path,
                    headers=_masked(headers),
                    body=_without_keys(document),
                    at=self.clock(),
                    account=account.label if account else "",
                    wrong=tuple(wrong),
                )
            )
            if host == "api":
                return self._management(path, query, account)
            if method == "GET" and path == "/v1/models":
                return self._catalog()
            if not inference:
                return Refusal(status=404, detail="No matching cord found!")
            return self._inference(host, path, account, refusal, headers, document)

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
            self._note("asked during a ban or over the limit")
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
            return self._embed(body)
        if path != "/v1/chat/completions" or host == "embed":
            return Refusal(status=404, detail="No matching cord found!")
        return self._chat(account, headers, body)

    def _embed(self, body: dict[str, Any]) -> Reply:
        model = self.models.get(str(body.get("model")))
        if model is None or "embedding" not in (model.outputs or ()):
            return Refusal(status=404, detail=f"model not found: {body.get('model')}")
        return Document(value=embeddings(body, model.id))

    def _chat(
        self, account: FakeAccount, headers: Mapping[str, str], body: dict[str, Any]
    ) -> Reply:
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            return Refusal(status=400, detail="messages must be a non-empty list")
        if account.trouble:
            status, detail = TROUBLES[account.trouble]
            if account.trouble == "daily quota":
                midnight = (self.clock() // 86_400 + 1) * 86_400
                detail = {**detail, "quota_reset_timestamp": midnight}
            return Refusal(status=status, detail=detail, headers=self.inject)
        asked = str(body.get("model", ""))
        found = self._targets(asked)
        if not found:
            self._note("sent a body to an absent model")
            return Refusal(status=404, detail=f"model not found: {asked}")
        reply: Reply = Refusal(status=404, detail=f"model not found: {asked}")
        for model in found:
            reply = self._serve(model, account, headers, body)
            # The service itself goes on to the next of a list only after these two.
            if not (isinstance(reply, Refusal) and reply.status in (429, 503)):
                break
        return reply

    def _serve(
        self,
        model: FakeModel,
        account: FakeAccount,
        headers: Mapping[str, str],
        body: dict[str, Any],
    ) -> Reply:
        self._judge(model, body)
        fault = model.faults.popleft() if model.faults else ""
        if isinstance(fault, Refusal):
            return fault
        if headers.get("x-tee-only") == "true" and not model.id.endswith("-TEE"):
            return Refusal(status=426, detail="This chute is not TEE-enabled.")
        if model.state == "disabled":
            return Refusal(status=503, detail="This chute is currently disabled.")
        if model.state == "maintenance":
            return Refusal(status=429, detail="model is under maintenance")
        if model.state == "cold" or model.instances == 0:
            detail = f"No instances available (yet) for chute_id='{model.chute_id}'"
            return Refusal(status=503, detail=detail)
        if model.busy >= model.concurrency:
            return Refusal(status=429, detail=CAPACITY, headers=self.inject)
        model.busy += 1
        return Answer(model=model, body=body, account=account, served=model.id, fault=fault)

    def _targets(self, asked: str) -> list[FakeModel]:
        names = asked
        for suffix in (":latency", ":throughput", ":THINKING"):
            names = names.removesuffix(suffix)
        found: list[FakeModel] = []
        for name in (part.strip() for part in names.split(",")):
            for one in self.aliases.get(name, [name]):
                model = self.models.get(one) or self.models.get(f"{one}-TEE")
                by_id = next((m for m in self.models.values() if m.chute_id == one), None)
                found += [m for m in (model or by_id,) if m is not None]
        return found

    # -- judging -------------------------------------------------------------------------------

    def _judge(self, model: FakeModel, body: Mapping[str, Any]) -> None:
        if not model.public:
            self._note("sent a body to a private model")
        if model.state == "disabled":
            self._note("sent a body to a disabled model")
        if model.state == "cold" or model.instances == 0:
            self._note("sent a body to an inactive model")
        features = model.features
        if body.get("tools") and features is not None and "tools" not in features:
            self._note("sent tools to a model without them")
        images = [
            part
            for message in body["messages"]
            if isinstance(message.get("content"), list)
            for part in message["content"]
            if part.get("type") == "image_url"
        ]
        if images and model.inputs is not None and "image" not in model.inputs:
            self._note("sent an image to a model that cannot see")

    def _note(self, wrong: str) -> None:
        self.seen[-1] = evolve(self.seen[-1], wrong=(*self.seen[-1].wrong, wrong))

    # -- management ----------------------------------------------------------------------------

    def _catalog(self) -> Reply:
        if self.catalog_mode:
            return broken(self.catalog_mode)
        rows = [m.catalog_row() for m in self.models.values() if m.in_catalog and m.public]
        return Document(value={"object": "list", "data": rows})

    def _feed(self) -> Reply:
        if self.feed_mode:
            return broken(self.feed_mode)
        at = self.clock() - self.feed_age_s
        rows = [model.feed_row(at) for model in self.models.values() if model.in_feed]
        return Document(value=[*rows, *self.feed_extra])

    def _management(
        self, path: str, query: Mapping[str, list[str]], account: FakeAccount | None
    ) -> Reply:
        if path.startswith("/e2e/"):
            return Refusal(status=501, detail="not in this fake")
        open_to_all: Mapping[str, Callable[[], Reply]] = {
            "/chutes/utilization": self._feed,
            "/ping": lambda: Document(value={"message": "pong"}),
            "/pricing": lambda: Document(value={"gpu_price_estimates": {}}),
            "/invocations/stats/llm": lambda: Document(value=self._stats()),
            "/chutes/": lambda: self._chutes(int(query.get("limit", ["25"])[0])),
        }
        if path in open_to_all:
            return open_to_all[path]()
        if account is None:
            return Refusal(status=401, detail="Can't find a user with that api key in our db :(")
        if path.startswith("/chutes/warmup/"):
            return self._warm_up(unquote(path.removeprefix("/chutes/warmup/")), account)
        if path.startswith("/chutes/"):
            model = self._by_name(unquote(path.removeprefix("/chutes/")))
            if model is None:
                return Refusal(status=404, detail="Chute not found, or does not belong to you")
            return Document(value=_chute_row(model))
        return self._user(path, account)

    def _chutes(self, limit: int) -> Reply:
        rows = [_chute_row(model) for model in self.models.values() if model.public][:limit]
        return Document(value={"total": len(rows), "page": 0, "limit": limit, "items": rows})

    def _user(self, path: str, account: FakeAccount) -> Reply:
        midnight = (self.clock() // 86_400 + 1) * 86_400
        rows: Mapping[str, Any] = {
            "/users/me": {
                "username": "fake",
                "user_id": account.label,
                "balance": account.balance,
                "quotas": [{"chute_id": "*", "quota": account.quota}],
            },
            "/users/me/quotas": [{"chute_id": "*", "quota": account.quota}],
            "/users/me/quota_usage/*": {"quota": account.quota, "used": account.billed},
            "/users/me/discounts": [],
            "/users/me/price_overrides": [],
            "/users/me/subscription_usage": {
                "subscription": True,
                "custom": False,
                "monthly_price": 3,
                "anchor_date": "2026-11-01",
                "four_hour": {
                    "usage": account.billed / 1000,
                    "cap": 1.25,
                    "remaining": 1.25 - account.billed / 1000,
                    "reset_at": _moment(midnight),
                },
                "monthly": {"uncapped": True},
            },
            "/model_aliases/": [
                {"alias": name, "chute_ids": ids} for name, ids in self.aliases.items()
            ],
        }
        if path not in rows:
            return Refusal(status=404, detail="Not Found")
        return Document(value=rows[path])

    def _warm_up(self, name: str, account: FakeAccount) -> Reply:
        model = self._by_name(name)
        if model is None:
            return Refusal(status=404, detail="Chute not found, or does not belong to you")
        if account.balance <= 0:
            return Refusal(status=402, detail="Account balance is too low")
        if model.state == "disabled":
            return Refusal(status=503, detail="This chute is currently disabled.")
        return WarmUp(model=model)

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

    def _by_name(self, name: str) -> FakeModel | None:
        found = (m for m in self.models.values() if name in (m.id, m.chute_id, m.slug))
        return next((model for model in found if model.public), None)

    def _stats(self) -> list[dict[str, Any]]:
        return [
            {
                "chute_id": model.chute_id,
                "name": model.id,
                "date": "2026-11-20",
                "total_requests": 1000,
                "tokens": 100_000,
                "average_tps": 60.0,
                "average_ttft": 0.5,
            }
            for model in self.models.values()
            if model.in_catalog
        ]


def _place(target: str, host_header: str) -> tuple[str, str, Mapping[str, list[str]]]:
    """Which host is meant, by path prefix or by name, and the path there."""
    parts = urlsplit(target)
    path = parts.path
    for prefix in ("llm", "api", "embed", "image"):
        if path.startswith(f"/_{prefix}/"):
            return prefix, path[len(prefix) + 2 :], parse_qs(parts.query)
    if path.startswith("/_slug/"):
        _, _, _slug, *rest = path.split("/")
        return "slug", "/" + "/".join(rest), parse_qs(parts.query)
    name = host_header.split(":")[0].lower().removesuffix(".chutes.ai")
    known = {"llm": "llm", "api": "api", "embed": "embed", "image": "image"}
    if host_header.split(":")[0].lower().endswith(".chutes.ai"):
        return known.get(name, "slug"), path, parse_qs(parts.query)
    return "llm", path, parse_qs(parts.query)


def broken(mode: str) -> Reply:
    """A reply that is no list: error, html, empty or truncated."""
    if mode == "error":
        return Refusal(status=500, detail="Internal Server Error")
    raw = {"html": page("502 Bad Gateway"), "empty": b"[]", "truncated": b'[{"name": "acme/'}[mode]
    kind = "text/html" if mode == "html" else "application/json"
    return Document(raw=raw, content_type=kind)


def _chute_row(model: FakeModel) -> dict[str, Any]:
    return {
        "chute_id": model.chute_id,
        "name": model.id,
        "slug": model.slug,
        "public": model.public,
        "hot": model.active > 0,
        "standard_template": "vllm",
        "instances": [{"instance_id": str(n), "active": True} for n in range(model.active)],
    }


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def _wrong(headers: Mapping[str, str], body: Any) -> list[str]:
    wrong = []
    if "x-api-key" in headers:
        wrong.append("sent x-api-key")
    if "x-chutes-trace" in headers:
        wrong.append("sent x-chutes-trace")
    if headers.get("content-type", "").partition(";")[0] != "application/json":
        wrong.append("sent a body that is not called JSON")
    if not isinstance(body, dict):
        return [*wrong, "sent a body that is no JSON object"]
    return [*wrong, *(f"sent {name}" for name in sorted(FOREIGN & set(body)))]


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: _without_keys(value) for name, value in headers.items()}


def _without_keys(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    shown = KEY.sub(lambda match: key_label(match[0]), text)
    if shown == text:
        return value
    return shown if isinstance(value, str) else json.loads(shown)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
