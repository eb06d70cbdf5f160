"""What a caller wants generated: how many programs, by which model, and whether to refine them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import asdict, evolve, fields, frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

MOST = 64
AUTOGENERATE = "autogenerate"
ENABLED = "enabled"
SUGAR: Mapping[str, str] = {
    "n_variants": "n",
    "generator_model": "model",
    "temperature": "temperature",
    "max_tokens": "max_tokens",
}
"""Arguments beside `autogenerate` → entries of it."""


@frozen(kw_only=True)
class Wish:
    """One call for `n` programs per item, to `model`; with `refine` the search asks for more."""

    n: int = 3
    model: str = ""
    api_base: str = ""
    """Where `model` is served, when the Router would not find it by itself. Never with a key."""
    temperature: float = 0.0
    max_tokens: int = 2000
    timeout_s: float = 120.0
    """Longest wait for one answer of the model."""
    refine: bool = False
    """Whether a strategy that grows its arms may have programs refined, one call each."""

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON."""
        return asdict(self)


NAMES = tuple(row.name for row in fields(Wish))


def parse_wish(given: Json) -> Wish | None:
    """`given` (true, false, or a mapping of Wish's entries) as a Wish; None for no generation.

    `generator_model` is another name of `model`, `enabled: false` switches off. Raises
    `UsageError` for an unknown entry or a value that cannot be used.
    """
    if given is None or given is False:
        return None
    rows = {} if given is True else given
    if not isinstance(rows, Mapping):
        raise UsageError(f"autogenerate must be true, false or a mapping, but is {given!r}.")
    if rows.get(ENABLED) is False:
        return None
    plain = {name: value for name, value in _spelt(rows).items() if name != ENABLED}
    odd = sorted(set(plain) - set(NAMES))
    if odd:
        raise UsageError(f"autogenerate has no entry {odd[0]!r}; it has {', '.join(NAMES)}.")
    return _checked(evolve(Wish(), **plain))


def merged_wish(
    given: Mapping[str, Json], defaults: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """The options `given`, with all that is said about generation in `autogenerate`, spelt out.

    Entries of the mapping win over the arguments beside it, and those over `defaults`. Raises
    `UsageError` as `parse_wish`, and for such arguments where nothing is to be generated.
    """
    config = given.get("strategy_config")
    inner = config.get(AUTOGENERATE) if isinstance(config, Mapping) else None
    wished = given.get(AUTOGENERATE, inner)
    loose = {new: given[old] for old, new in SUGAR.items() if given.get(old) is not None}
    rest = {name: value for name, value in given.items() if name not in SUGAR}
    if isinstance(config, Mapping) and AUTOGENERATE in config:
        rest["strategy_config"] = {k: v for k, v in config.items() if k != AUTOGENERATE}
    if wished is None or wished is False:
        if loose:
            named = ", ".join(sorted(old for old in SUGAR if given.get(old) is not None))
            raise UsageError(
                f"{named}: this says what to generate, but autogenerate is not on. Give "
                "autogenerate=true, or the model 'codeworld/mcts:auto'."
            )
        return {**rest, AUTOGENERATE: None} if AUTOGENERATE in rest else rest
    named_ones = _spelt(wished) if isinstance(wished, Mapping) else {}
    wish = parse_wish(
        {**(defaults or {}), **loose, **named_ones}
        if wished is True or isinstance(wished, Mapping)
        else wished
    )
    return {**rest, AUTOGENERATE: None if wish is None else wish.to_dict()}


def names_model(given: Mapping[str, Json]) -> bool:
    """Whether the options `given` name the model that is to write."""
    config = given.get("strategy_config")
    places = [given, given.get(AUTOGENERATE)]
    places.append(config.get(AUTOGENERATE) if isinstance(config, Mapping) else None)
    return any(
        isinstance(place, Mapping) and any(place.get(name) for name in ("model", "generator_model"))
        for place in places
    )


def _spelt(rows: Mapping[str, Json]) -> dict[str, Json]:
    """`rows` under the names of today."""
    return {SUGAR.get(name, name): value for name, value in rows.items() if value is not None}


def _checked(wish: Wish) -> Wish:
    for name, value, least, most in (
        ("n", wish.n, 1, MOST),
        ("max_tokens", wish.max_tokens, 1, 1_000_000),
        ("temperature", wish.temperature, 0, 2),
        ("timeout_s", wish.timeout_s, 0.001, 86_400),
    ):
        whole = name in ("n", "max_tokens")
        kinds: tuple[type, ...] = (int,) if whole else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            raise UsageError(
                f"autogenerate's {name} must be {kind} between {least} and {most}, but is "
                f"{value!r}."
            )
    if not isinstance(wish.model, str) or not wish.model.strip():
        raise UsageError(
            "autogenerate needs a model: give generator_model='openai/…', or set "
            "CODEWORLD_MCTS_AUTO_MODEL. None is chosen for you, for its answers may cost money."
        )
    if not isinstance(wish.api_base, str):
        raise UsageError(f"autogenerate's api_base must be a URL, but is {wish.api_base!r}.")
    if not isinstance(wish.refine, bool):
        raise UsageError(f"autogenerate's refine must be true or false, but is {wish.refine!r}.")
    return wish
