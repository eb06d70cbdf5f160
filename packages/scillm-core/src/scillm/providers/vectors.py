"""What is asked of an embeddings API, and whether what came back answers it. Pure."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from scillm.errors import MalformedReplyError
from scillm.models import Embedding, EmbeddingResponse
from scillm.records import evolve

if TYPE_CHECKING:
    from scillm.records import EmbeddingRequest, Json

OPTIONS = ("user", "dimensions", "encoding_format")
NUMBERS = frozenset({int, float})


def embedding_body(request: EmbeddingRequest) -> dict[str, Json]:
    """The body, its fields in the order of the `openai` client."""
    known = {name: request.params[name] for name in OPTIONS if name in request.params}
    return {"model": request.model, "input": request.input, **known, **request.params}


def in_order(answer: EmbeddingResponse, request: EmbeddingRequest) -> EmbeddingResponse:
    """`answer` with one vector per piece of the input, in that order.

    A server may send them in another order, or without `index`. Raises `MalformedReplyError` when
    their number or their indices do not fit the input, or when something is no vector.
    """
    wanted = len(request.pieces)
    if len(answer.data) != wanted:
        raise MalformedReplyError(f"{wanted} vectors were asked for, but {len(answer.data)} came.")
    as_text = request.params.get("encoding_format") == "base64"
    for place, row in enumerate(answer.data):
        is_text = as_text and isinstance(row.embedding, str) and row.embedding
        if not (is_text or is_vector(row.embedding)):
            raise MalformedReplyError(
                f"data[{place}].embedding should be a list of numbers"
                f"{' or base64 text' if as_text else ''}, but is {_seen(row.embedding)}."
            )
    places = [row.index for row in answer.data]
    if places == list(range(wanted)):
        return answer
    if any(places) and sorted(places) != list(range(wanted)):
        raise MalformedReplyError(
            f"The indices of {wanted} vectors should be 0 to {wanted - 1}, but are {places[:20]}."
        )
    rows = sorted(answer.data, key=attrgetter("index")) if any(places) else answer.data
    return evolve(answer, data=[evolve(row, index=at) for at, row in enumerate(rows)])


def answer_with(vectors: Sequence[Sequence[float]], request: EmbeddingRequest) -> EmbeddingResponse:
    """The answer that gives these vectors in the form the request asks for."""
    as_text = request.params.get("encoding_format") == "base64"
    rows = [
        Embedding(index=at, embedding=base64_of(vector) if as_text else list(vector))
        for at, vector in enumerate(vectors)
    ]
    return EmbeddingResponse(data=rows, model=request.model)


def base64_of(vector: Sequence[float]) -> str:
    """A vector as `encoding_format="base64"` has it: 32-bit floats, little-endian."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def is_vector(value: Any) -> bool:
    """Whether `value` is a list of numbers that is not empty."""
    return isinstance(value, list) and bool(value) and NUMBERS.issuperset(map(type, value))


def _seen(value: Any) -> str:
    return "empty" if value in ([], "") else f"a JSON {type(value).__name__}"
