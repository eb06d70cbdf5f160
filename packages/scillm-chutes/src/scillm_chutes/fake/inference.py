"""The fake's inference hosts: which model takes a call, and why it may refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scillm_chutes.fake.judging import parts_of, wrong_for
from scillm_chutes.fake.replies import Answer, Refusal

if TYPE_CHECKING:
    from scillm_chutes.fake.accounts import FakeAccount
    from scillm_chutes.fake.models import FakeModel
    from scillm_chutes.fake.replies import Reply
    from scillm_chutes.fake.site import Site

CAPACITY = "Infrastructure is at maximum capacity, try again later"
MOST_IMAGES = 8
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


def chat(
    site: Site, account: FakeAccount, headers: Mapping[str, str], body: dict[str, Any]
) -> Reply:
    """An answer to come, or the refusal of the last model that was asked."""
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        return Refusal(status=400, detail="messages must be a non-empty list")
    if parts_of(body, "file"):
        return Refusal(status=400, detail="File content parts are not supported")
    if len(parts_of(body, "image_url")) > MOST_IMAGES:
        return Refusal(status=400, detail=f"At most {MOST_IMAGES} image URLs are supported")
    return _routed(site, account, headers, body, template="vllm")


def embed(
    site: Site, account: FakeAccount, headers: Mapping[str, str], body: dict[str, Any]
) -> Reply:
    """Vectors to come, or the refusal of the last model that was asked."""
    if not body.get("input"):
        return Refusal(status=400, detail="input must not be empty")
    return _routed(site, account, headers, body, template="tei")


def _routed(
    site: Site,
    account: FakeAccount,
    headers: Mapping[str, str],
    body: dict[str, Any],
    *,
    template: str,
) -> Reply:
    if account.trouble:
        status, detail = TROUBLES[account.trouble]
        if account.trouble == "daily quota":
            midnight = (site.clock() // 86_400 + 1) * 86_400
            detail = {**detail, "quota_reset_timestamp": midnight}
        return Refusal(status=status, detail=detail, headers=site.inject)
    asked = str(body.get("model", ""))
    found = [model for model in _targets(site, asked) if model.template == template]
    if not found:
        site.note("sent a body to an absent model")
        return Refusal(status=404, detail=f"model not found: {asked}")
    reply: Reply = Refusal(status=404, detail=f"model not found: {asked}")
    for model in found:
        reply = _serve(site, model, account, headers, body)
        # The service itself goes on to the next of a list only after these two.
        if not (isinstance(reply, Refusal) and reply.status in (429, 503)):
            break
    return reply


def _serve(
    site: Site,
    model: FakeModel,
    account: FakeAccount,
    headers: Mapping[str, str],
    body: dict[str, Any],
) -> Reply:
    for wrong in wrong_for(model, body):
        site.note(wrong)
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
        return Refusal(status=429, detail=CAPACITY, headers=site.inject)
    model.busy += 1
    return Answer(model=model, body=body, account=account, served=model.id, fault=fault)


def _targets(site: Site, asked: str) -> list[FakeModel]:
    names = asked
    for suffix in (":latency", ":throughput", ":THINKING"):
        names = names.removesuffix(suffix)
    found: list[FakeModel] = []
    for name in (part.strip() for part in names.split(",")):
        for one in site.aliases.get(name, [name]):
            model = site.models.get(one) or site.models.get(f"{one}-TEE")
            by_id = next((m for m in site.models.values() if m.chute_id == one), None)
            found += [m for m in (model or by_id,) if m is not None]
    return found
