"""What is known of Chutes: its models, how busy they are, how they rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen


@frozen(kw_only=True)
class Model:
    """One row of `/v1/models`. None and empty mean that the row does not say.

    Prices are US dollars per token.
    """

    id: str
    chute_id: str = ""
    features: frozenset[str] | None = None
    inputs: frozenset[str] | None = None
    outputs: frozenset[str] | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    quantization: str = ""
    prompt_usd: float | None = None
    completion_usd: float | None = None
    confidential: bool | None = None


@frozen(kw_only=True)
class Busyness:
    """One row of `/chutes/utilization`: shares in [0, 1], instances as counts."""

    name: str
    chute_id: str = ""
    used_now: float | None = None
    used_5m: float | None = None
    used_15m: float | None = None
    used_1h: float | None = None
    refused_5m: float = 0.0
    refused_15m: float = 0.0
    refused_1h: float = 0.0
    active: int = 0
    scalable: bool = False
    scale_allowance: float = 0.0


@frozen(kw_only=True)
class Catalog:
    """The models as fetched at `at` (Unix time), in the order of the server: busiest first."""

    models: Sequence[Model] = ()
    at: float = 0.0

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id."""
        return tuple(model.id for model in self.models)

    def find(self, name: str) -> Model | None:
        """The model of that id."""
        return next((model for model in self.models if model.id == name), None)


@frozen(kw_only=True)
class Feed:
    """How busy every chute is. `at` is when it was measured (Unix time), not when it was read."""

    rows: Mapping[str, Busyness] = field(factory=dict)
    at: float = 0.0


@frozen(kw_only=True)
class Ranked:
    """One model with its place: a score with every term of it, or why it is left out."""

    id: str
    score: float = 0.0
    terms: Mapping[str, float] = field(factory=dict)
    left_out: str = ""
    used: float | None = None
    """Share of its capacity in use, as blended for the score; None where the feed does not say."""
    price_usd: float | None = None
    """Dollars for one input and one output token together."""


@frozen(kw_only=True)
class Account:
    """One base URL with the key used there. The key is never shown."""

    api_base: str
    api_key: str = field(repr=False)
    number: int = 0
    """The `_n` of its variables; 0 for those without one."""
