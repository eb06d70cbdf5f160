"""The tools of one run under one roof: offered by name, checked, carried out once, cut to size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import anyio
from attrs import evolve, frozen
from scillm.errors import SchemaError, UsageError
from scillm.structured.schema import check

from scillm_codex.agent.records import ToolAnswer, ToolSpec

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codex.agent.records import Call

MOST_PROBLEMS = 5
MOST_CHARS = 16_000
"""Of a tool's answer, for the model: its beginning and its end, and a note between."""


class Source(Protocol):
    """Where tools come from."""

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """What it offers."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Json], /) -> ToolAnswer:
        """Carry out one tool, once; whatever goes wrong is the answer's text."""
        ...


@frozen(kw_only=True)
class Offer:
    """A tool and where it comes from, under its own name there."""

    spec: ToolSpec
    source: Source
    own_name: str


class Toolbox:
    """Tools by the name the model sees. Remembers nothing else."""

    def __init__(self, offers: Sequence[Offer] = (), *, most_chars: int = MOST_CHARS) -> None:
        self._offers: dict[str, Offer] = {}
        self._most_chars = most_chars
        for offer in offers:
            if offer.spec.name in self._offers:
                raise UsageError(
                    f"Two tools are called {offer.spec.name!r}; give their servers other names "
                    "(NAME=COMMAND)."
                )
            self._offers[offer.spec.name] = offer

    @property
    def names(self) -> frozenset[str]:
        """Every name."""
        return frozenset(self._offers)

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Every tool as the model sees it, in the order they were offered."""
        return [offer.spec for offer in self._offers.values()]

    async def carry_out(self, call: Call, *, timeout_s: float | None = None) -> ToolAnswer:
        """Check the arguments, then call the tool once; problems are the answer.

        `TimeoutError` when it takes longer than `timeout_s`.
        """
        offer = self._offers[call.name]
        problem = misfit(call.arguments, offer.spec.parameters)
        if problem is not None:
            return ToolAnswer(ok=False, text=problem)
        with anyio.fail_after(timeout_s):
            answer = await offer.source.call(offer.own_name, call.arguments)
        return evolve(answer, text=shortened(answer.text, self._most_chars))


def offers_of(source: Source) -> list[Offer]:
    """A source's tools under their own names."""
    return [Offer(spec=spec, source=source, own_name=spec.name) for spec in source.tools]


def misfit(arguments: Mapping[str, Json], schema: Mapping[str, Json]) -> str | None:
    """Why arguments do not fit the tool's schema, for the model; None when they do."""
    try:
        check(arguments, schema or {"type": "object"})
    except SchemaError as error:
        wrong = "; ".join(error.problems[:MOST_PROBLEMS]) or error.message
        return f"Error: not run, because the arguments do not fit: {wrong}."
    except UsageError:
        # The schema itself cannot be used here; the tool's own checks still stand.
        return None
    return None


def shortened(text: str, most: int) -> str:
    """`text` within `most` characters: its beginning and end, with a note on what was cut."""
    if len(text) <= most:
        return text
    half = max(1, (most - 80) // 2)
    cut = len(text) - 2 * half
    return f"{text[:half]}\n[… {cut} of {len(text)} characters were cut out here …]\n{text[-half:]}"
