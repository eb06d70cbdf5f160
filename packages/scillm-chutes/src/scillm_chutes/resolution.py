"""From the name a caller wrote to one id of the catalog, or a refusal; nothing is guessed.

Numbers never bend, words that change what a model can do are never filled in, and more than one
candidate is refused. Scores of likeness play no part but for typing errors in long words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Literal

from attrs import frozen
from scillm.errors import AmbiguousModelError, UnknownModelError

from scillm_chutes.names import (
    ACTIVE,
    BASES,
    CONFIDENTIAL,
    CONTEXT,
    DATE,
    DTYPES,
    FAMILIES,
    NEUTRAL,
    OWNERS,
    VERSION,
    Name,
    Number,
    parsed,
    vendor_words,
)

Mode = Literal["strict", "smart"]

SHOWN = 8
"""So many candidates a message lists; the error carries all."""
LONG_WORD = 5
SAME_WORD = 0.85

UNLIKE_A_NAME = re.compile(r"://|^[./~\\]|\\|/.*/.*/|\.\.|[\x00-\x1f]|,")


@frozen(kw_only=True)
class Resolution:
    """An id of the catalog and the rule that found it.

    `rule` is exact, case, separators, deployment, tokens or typo.
    """

    id: str
    rule: str


def resolve_model(requested: str, catalog: Sequence[str], *, mode: Mode = "smart") -> Resolution:
    """The one id of `catalog` that `requested` means.

    Raises `AmbiguousModelError` or `UnknownModelError`, both with `candidates`. `strict` stops
    after the rules in which both names are the same but for case, separators, vendor and the way
    of deployment; `smart` also fills in what does not change the model.
    """
    if mode not in ("strict", "smart"):
        raise ValueError(f"mode must be strict or smart, not {mode!r}.")
    ids = tuple(dict.fromkeys(name for name in catalog if name.strip()))
    if requested in ids:
        return Resolution(id=requested, rule="exact")
    text = requested.strip()
    if not text or UNLIKE_A_NAME.search(text):
        raise UnknownModelError(
            f"{requested!r} is no model name; write one as the catalog does.",
            candidates=(),
        )
    found = _same_case(text, ids) or _same_name(text, ids) or _same_weights(text, ids)
    if found is None and mode == "smart":
        found = _by_tokens(text, ids)
    if found is None:
        raise _unknown(text, ids)
    return found


def _same_case(text: str, ids: Sequence[str]) -> Resolution | None:
    folded = [name for name in ids if name.casefold() == text.casefold()]
    return _only(text, folded, "case")


def _same_name(text: str, ids: Sequence[str]) -> Resolution | None:
    asked = parsed(text)
    same = [
        name
        for name in ids
        if (found := parsed(name)).deployment == asked.deployment and _is_same(asked, found)
    ]
    return _only(text, same, "separators")


def _same_weights(text: str, ids: Sequence[str]) -> Resolution | None:
    """Equal but for the words about deployment; those given are kept where the catalog can."""
    asked = parsed(text)
    same = [name for name in ids if _is_same(asked, parsed(name)) and _serves(asked, name)]
    keeping = [name for name in same if parsed(name).deployment >= asked.deployment]
    bare = [name for name in same if not parsed(name).deployment]
    return _only(text, (keeping if asked.deployment else bare) or bare or same, "deployment")


def _is_same(asked: Name, found: Name) -> bool:
    if not asked.numbers and not asked.words:
        return False
    if asked.letters != found.letters:
        return False
    dotted = any("." in number.value for number in asked.numbers if number.role == VERSION)
    return asked.ordered == found.ordered or (not dotted and asked.ordered == found.undotted)


def _serves(asked: Name, candidate: str) -> bool:
    """Whether confidential computing is kept and no other number format is put in its place."""
    found = parsed(candidate).deployment
    if CONFIDENTIAL in asked.deployment and CONFIDENTIAL not in found:
        return False
    wanted, has = asked.deployment & DTYPES, found & DTYPES
    return not (wanted and has) or wanted <= has


def _by_tokens(text: str, ids: Sequence[str]) -> Resolution | None:
    asked = parsed(text)
    if not asked.words:
        return None
    spelling = _spelling(asked, ids)
    if spelling is None:
        return None
    fits = [name for name in ids if _agrees(asked, spelling, name)]
    rule = "typo" if any(word != meant for word, meant in spelling.items()) else "tokens"
    if len(fits) > 1:
        fits = _one_model(asked, fits)
    if len(fits) > 1:
        raise _ambiguous(text, fits)
    if not fits:
        return None
    wrong = _not_to_be_filled_in(asked, spelling, fits[0])
    if wrong:
        raise UnknownModelError(
            f"{text!r} comes nearest to {fits[0]}, which also says {', '.join(wrong)}; that is "
            "never filled in. Write the whole name if you mean it.",
            candidates=fits,
        )
    return Resolution(id=fits[0], rule=rule)


def _spelling(asked: Name, ids: Iterable[str]) -> Mapping[str, str] | None:
    """Each word asked for with the word meant; None when one could mean two."""
    known = {word for name in ids for word in parsed(name).words}
    named = known | FAMILIES | {word for name in ids for word in vendor_words(parsed(name).vendor)}
    meant: dict[str, str] = {}
    for word in asked.words:
        near = [word]
        if word not in named and len(word) >= LONG_WORD:
            near = [other for other in known | FAMILIES if _is_typo(word, other)] or near
        if len(near) > 1:
            return None
        meant[word] = near[0]
    return meant


def _is_typo(word: str, other: str) -> bool:
    if len(other) < LONG_WORD:
        return False
    # The ratio depends on the order of its arguments; a likeness must hold both ways.
    one = SequenceMatcher(None, word, other, autojunk=False).ratio()
    return min(one, SequenceMatcher(None, other, word, autojunk=False).ratio()) >= SAME_WORD


def _agrees(asked: Name, spelling: Mapping[str, str], candidate: str) -> bool:
    found = parsed(candidate)
    if asked.counted - found.counted or not _serves(asked, candidate):
        return False
    if not all(_has(found, number, spelling) for number in asked.numbers):
        return False
    owner = vendor_words(found.vendor)
    words = [spelling[word] for word in asked.words]
    own = [word for word in words if word in found.words]
    return bool(own) and all(word in found.words or word in owner for word in words)


def _has(found: Name, number: Number, spelling: Mapping[str, str]) -> bool:
    """Whether a version asked for belongs to the same word: Hermes 3 is not Llama 3."""
    word = spelling.get(number.after, "")
    if number.role != VERSION or number.revision or not word or word in NEUTRAL:
        return True
    return any(
        other.plain == number.plain and (other.after == word or other.revision)
        for other in found.numbers
    )


def _one_model(asked: Name, fits: Sequence[str]) -> list[str]:
    """One upload of several that are the same model: the vendor asked for, or the plain one."""
    first = parsed(fits[0])
    if any(
        parsed(name).letters != first.letters or parsed(name).counted != first.counted
        for name in fits
    ):
        return list(fits)
    rest = [name for name in fits if parsed(name).vendor == asked.vendor] or list(fits)
    rest = [name for name in rest if parsed(name).deployment >= asked.deployment] or rest
    if len(rest) > 1:
        bare = [name for name in rest if parsed(name).deployment == asked.deployment]
        rest = bare or rest
    return rest


def _not_to_be_filled_in(asked: Name, spelling: Mapping[str, str], candidate: str) -> list[str]:
    """What `candidate` adds to the request that could make it another model."""
    found = parsed(candidate)
    given = {spelling[word] for word in asked.words}
    fillable = NEUTRAL | BASES | OWNERS | vendor_words(found.vendor)
    added = [word for word in found.words if word not in given]
    wrong = [word for word in added if word not in fillable]
    missing = found.counted - asked.counted
    for number in found.numbers:
        if missing[number.plain] <= 0:
            continue
        missing[number.plain] -= 1
        if not _may_add(number, asked, added):
            wrong.append(f"{number.role} {number.value}")
    return wrong


def _may_add(number: Number, asked: Name, added: Sequence[str]) -> bool:
    if number.role in (DATE, ACTIVE):
        return True
    if number.role == CONTEXT or not asked.numbers:
        return False  # a family alone names no model
    if number.role == VERSION:
        return number.revision or (number.after in added and number.after in BASES)
    return True


def _only(text: str, found: Sequence[str], rule: str) -> Resolution | None:
    if len(found) > 1:
        vendor = parsed(text).vendor
        own = [name for name in found if vendor and parsed(name).vendor == vendor]
        if len(own) != 1:
            raise _ambiguous(text, found)
        found = own
    return Resolution(id=found[0], rule=rule) if found else None


def _ambiguous(text: str, found: Sequence[str]) -> AmbiguousModelError:
    shown = ", ".join(found[:SHOWN]) + (
        f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    )
    return AmbiguousModelError(
        f"{text!r} fits {len(found)} models: {shown}. Write the one you mean.", candidates=found
    )


def _unknown(text: str, ids: Sequence[str]) -> UnknownModelError:
    lower = {name.rpartition("/")[2].lower(): name for name in ids}
    near = [lower[key] for key in get_close_matches(text.lower(), list(lower), n=5, cutoff=0.5)]
    hint = f" Near it: {', '.join(near)}." if near else ""
    return UnknownModelError(
        f"No model of the catalog is called {text!r} ({len(ids)} are there).{hint}",
        candidates=near,
    )
