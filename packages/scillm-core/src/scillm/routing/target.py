"""A model's name to its provider and the id the provider knows."""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import frozen

from scillm.errors import UnknownModelError
from scillm.plugins.groups import SIBLINGS

OPENAI_LIKE = "openai_like"


@frozen(kw_only=True)
class Target:
    """Who is asked, and under which id."""

    provider: str
    model: str


def target_of(
    model: str,
    *,
    provider: str | None,
    api_base: str | None,
    known: Collection[str],
    default_provider: str | None,
    missing: Callable[[str], str],
) -> Target:
    """Where `model` goes. The first of these rules that fits:

    1. `provider` given: it answers; its own name in front of the model is taken off, except for
       `openai_like`, whose ids may well start with `openai/`.
    2. `vendor/id` with a known provider (or one of our packages' names) as vendor.
    3. `model` is itself the name of a provider.
    4. `api_base` given: an OpenAI-like server, `model` as it is.
    5. `default_provider`.

    `missing` gives the text for a provider that one of our own packages would bring. Raises
    `UnknownModelError` when no rule fits.
    """
    vendor, slash, rest = model.partition("/")
    if provider:
        own = slash and vendor == provider and provider != OPENAI_LIKE
        return Target(provider=provider, model=rest if own and rest else model)
    if slash and rest and vendor in known:
        return Target(provider=vendor, model=rest)
    if model in known:
        return Target(provider=model, model=model)
    if vendor in SIBLINGS:
        raise UnknownModelError(missing(vendor))
    if api_base:
        return Target(provider=OPENAI_LIKE, model=model)
    if default_provider:
        return Target(provider=default_provider, model=model)
    raise UnknownModelError(
        f"No provider is known for the model {model!r}. Write <provider>/<id> "
        f"(providers here: {', '.join(sorted(known)) or 'none'}), or pass api_base=… for an "
        "OpenAI-compatible server, or custom_llm_provider=….",
        candidates=sorted(known),
    )
