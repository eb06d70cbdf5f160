"""Calls for vectors: their arguments, and how a provider is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scillm.errors import UnsupportedParamError, UsageError
from scillm.protocols import Embeds
from scillm.records import EmbeddingRequest, evolve
from scillm.routing.arguments import Arguments, sorted_arguments
from scillm.routing.jsonmode import JSON_ARGUMENTS, MIME

if TYPE_CHECKING:
    from scillm.models import EmbeddingResponse
    from scillm.routing.legs import Leg

OF_A_CHAT = (
    "messages",
    "stream",
    "stream_timeout",
    "response_format",
    "cache",
    "caching",
    MIME,
    *JSON_ARGUMENTS,
)
"""Arguments of `completion` that mean nothing here."""


def embedding_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments of `embedding`, checked; None counts as not given.

    Raises as `sorted_arguments` does, and for what only a chat has.
    """
    present = {name: value for name, value in given.items() if value is not None}
    for name in OF_A_CHAT:
        if name in present:
            raise UnsupportedParamError(
                f"embedding has no argument {name!r}: it asks for vectors, which are neither "
                "streamed nor cached nor JSON text. Leave it out.",
                param=name,
            )
    if "model" not in present:
        # The default model of the settings is one for chats.
        raise UsageError("No model was named: embedding needs model=….")
    asked = checked_input(present.pop("input", None))
    return evolve(sorted_arguments(present), input=asked)


def checked_input(value: Any) -> str | list[Any]:
    """A text, texts, token numbers, or lists of token numbers; anything else is a `UsageError`."""
    if isinstance(value, str):
        return value
    if isinstance(value, (Mapping, bytes)) or not isinstance(value, Sequence):
        raise UsageError(f"{FORMS}, but is {_named(value)}.")
    if not value:
        raise UsageError(f"{FORMS}, but is an empty list.")
    if isinstance(value[0], str):
        return [_checked(at, one, isinstance(one, str)) for at, one in enumerate(value)]
    if _is_number(value[0]):
        return [_checked(at, one, _is_number(one)) for at, one in enumerate(value)]
    return [[*_checked(at, one, _is_numbers(one))] for at, one in enumerate(value)]


async def embed(leg: Leg) -> EmbeddingResponse:
    """Ask the provider of `leg`."""
    provider = leg.provider()
    if not isinstance(provider, Embeds):
        raise UsageError(
            f"The provider {leg.endpoint.provider!r} makes no vectors (it has no method embed); "
            "name one that does, such as openai/<id>, or pass api_base=… of a server with "
            "/embeddings."
        )
    assert isinstance(leg.request, EmbeddingRequest)
    return await provider.embed(leg.request)


FORMS = "input must be a text, a list of texts, a list of token numbers, or a list of such lists"


def _checked(at: int, value: Any, fits: bool) -> Any:
    if not fits:
        raise UsageError(f"{FORMS}, but input[{at}] is {_named(value)}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_numbers(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return is_list and bool(value) and all(map(_is_number, value))


def _named(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
