"""What to answer: a request in, a completion out, or a refusal that says what to change."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from scillm.errors import BadRequestError, UnsupportedParamError
from scillm.models import ChatMessage, Choice, Completion, Usage

from scillm_markov.chain import learn, walk

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Json

DEFAULTS = {"max_tokens": 256, "seed": 0}


def answer_to(request: ChatRequest, *, provider: str) -> Completion:
    """The answer to `request`; the same request gets the same answer, and a token is a word."""
    if not request.messages:
        raise BadRequestError(
            f"{provider} learns from the messages, but there is none; send at least one.",
            provider=provider,
            model=request.model,
        )
    most, seed = checked(request, "max_tokens", least=1), checked(request, "seed", least=0)
    texts = [text_of(message.get("content")) for message in request.messages]
    # One word more than is allowed tells an answer that was cut off from one that just fits.
    words = list(islice(walk(learn(texts), seed=seed), most + 1))
    said, asked = len(words[:most]), sum(len(text.split()) for text in texts)
    message = ChatMessage(content=" ".join(words[:most]))
    finish_reason = "stop" if said == len(words) else "length"
    return Completion(
        model=request.model,
        choices=[Choice(message=message, finish_reason=finish_reason)],
        usage=Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said),
    )


def checked(request: ChatRequest, name: str, *, least: int) -> int:
    """The whole number `name` of the params; what this provider cannot honour is refused."""
    for param in request.params:
        if param not in DEFAULTS:
            raise UnsupportedParamError(
                f"markov knows {' and '.join(DEFAULTS)}, but {param!r} came; leave it out.",
                param=param,
            )
    value = request.params.get(name, DEFAULTS[name])
    if type(value) is not int or value < least:
        raise UnsupportedParamError(
            f"{name} must be a whole number from {least}, but is {value!r}.", param=name
        )
    return value


def text_of(content: Json) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(part["text"] for part in parts if part.get("type") == "text")
