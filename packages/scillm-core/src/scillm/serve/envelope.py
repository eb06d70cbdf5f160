"""The bridge's envelope: what an engine's clients may write, and request JSON to a Job.

Canonical form: `{messages, items, provider: {name, args}, options: {max_seconds, session_id,
track_id}, seed}`. What else an engine's clients write is data in its `EnvelopeSpec`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.errors import UsageError
from scillm.providers.bridge_wire import SHARED_OPTIONS
from scillm.records import Job

if TYPE_CHECKING:
    from scillm.records import Json

CANONICAL = ("messages", "items", "provider", "options", "seed", "async")
TOP_OPTIONS = (*SHARED_OPTIONS, "session", "track")
RENAMED = {"session": "session_id", "track": "track_id"}


@frozen(kw_only=True)
class EnvelopeSpec:
    """How the clients of one engine write a job.

    `engine` is the name in the Job; `names` are accepted as `provider.name` beside it.
    `items_aliases`: other top-level names of `items`. `aliases`: top-level name → option.
    `renames`: an argument's older name → its own. `groups`: arguments that are objects, whose
    entries are moved up among the arguments (entry → name; unlisted entries keep theirs).
    `item_aliases`: the same inside an item. `split_by_comma`: item fields that may be
    one text. `default_item` stands in when there are no items; without it that is an error.
    """

    engine: str
    schema: str
    names: Sequence[str] = ()
    items_aliases: Sequence[str] = ()
    aliases: Mapping[str, str] = field(factory=dict)
    renames: Mapping[str, str] = field(factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(factory=dict)
    item_aliases: Mapping[str, str] = field(factory=dict)
    split_by_comma: Sequence[str] = ()
    default_item: Mapping[str, Json] | None = None
    results_aliases: Sequence[str] = ()
    """Names under which the answer shows `results` again."""
    statistics: Mapping[str, str] = field(factory=dict)
    """Entry of `statistics` → `summary.x` or `options.x`, where it is taken from."""
    id_keys: Sequence[str] = ("item_id", "task_id", "id")


@frozen(kw_only=True)
class Envelope:
    """A request that was read: the job, and how it wants to be answered."""

    job: Job
    asynchronous: bool = False
    """Answer 202 at once; the result is fetched later."""
    warnings: Sequence[str] = ()
    """What was not taken as it was written; the answer repeats it."""

    @property
    def max_seconds(self) -> float | None:
        """How long the client lets the work take."""
        value: float | None = self.job.options.get("max_seconds")
        return value


def read_envelope(document: Json, spec: EnvelopeSpec) -> Envelope:
    """The job a request asks for; `UsageError` says what was wanted, what came and where.

    An item that is not an object is handed over as it came: the engine names it and does the
    others.
    """
    if not isinstance(document, Mapping):
        raise UsageError(
            f'The body must be a JSON object like {{"items": […]}}, but it is {_kind(document)}.'
        )
    _refuse_unknown(document, spec)
    notes: list[str] = []
    options = _options(document, spec, notes)
    seed = _seed(document, options, notes)
    messages = _list(document, "messages")
    if messages:
        options["messages"] = messages
    job = Job(
        engine=spec.engine, items=_items(document, spec, messages), options=options, seed=seed
    )
    asynchronous = document.get("async", False)
    if not isinstance(asynchronous, bool):
        raise UsageError(f"'async' must be true or false, but is {_kind(asynchronous)}.")
    return Envelope(job=job, asynchronous=asynchronous, warnings=tuple(notes))


def _refuse_unknown(document: Mapping[str, Json], spec: EnvelopeSpec) -> None:
    known = [*CANONICAL, *TOP_OPTIONS, *spec.items_aliases, *spec.aliases]
    for name in document:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"The field {str(name)[:80]!r} is not known here.{hint} The fields are "
                f"{', '.join(known)}."
            )


def _items(
    document: Mapping[str, Json], spec: EnvelopeSpec, messages: Sequence[Json]
) -> list[Json]:
    names = ("items", *spec.items_aliases)
    given = [name for name in names if document.get(name)]
    if len(given) > 1 and any(document[name] != document[given[0]] for name in given[1:]):
        raise UsageError(f"The items are given twice, as {' and as '.join(given)}; give them once.")
    rows = _list(document, given[0]) if given else []
    for name in names:
        _list(document, name)
    if not rows and spec.default_item is not None:
        default = dict(spec.default_item)
        if messages:
            default["context"] = {**default.get("context", {}), "messages": messages}
        return [default]
    if not rows:
        raise UsageError(f"{'/'.join(names)} must contain at least one item.")
    return [_item(row, spec) for row in rows]


def _item(row: Json, spec: EnvelopeSpec) -> Json:
    if not isinstance(row, Mapping):
        return row
    item = dict(row)
    for old, new in spec.item_aliases.items():
        if old in item and new not in item:
            item[new] = item.pop(old)
    for name in spec.split_by_comma:
        if isinstance(item.get(name), str):
            item[name] = [part.strip() for part in item[name].split(",") if part.strip()]
    return item


def _options(document: Mapping[str, Json], spec: EnvelopeSpec, notes: list[str]) -> dict[str, Json]:
    """Arguments, then options, then aliases; what comes later wins, and a note says so."""
    options: dict[str, Json] = {}
    _put_all(options, _arguments(document, spec, notes), "provider.args", notes)
    _put_all(options, _mapping(document, "options"), "options", notes)
    top = {RENAMED.get(name, name): document[name] for name in TOP_OPTIONS if name in document}
    _put_all(options, top, "the top level", notes)
    for alias, name in spec.aliases.items():
        if alias in document:
            _put_all(options, {name: document[alias]}, repr(alias), notes)
    for name in SHARED_OPTIONS:
        if options.get(name) is None:
            options.pop(name, None)
    _check_shared(options)
    return options


def _arguments(
    document: Mapping[str, Json], spec: EnvelopeSpec, notes: list[str]
) -> dict[str, Json]:
    provider = document.get("provider")
    if provider is None:
        return {}
    if isinstance(provider, str):
        provider = {"name": provider}
    if not isinstance(provider, Mapping):
        raise UsageError(
            f"'provider' must be an object with name and args, but is {_kind(provider)}."
        )
    name = provider.get("name", spec.engine)
    if name not in (spec.engine, *spec.names):
        raise UsageError(f"This bridge serves {spec.engine}, but provider.name is {name!r}.")
    flat: dict[str, Json] = {}
    given = _mapping(provider, "args", "provider.args")
    _put_all(flat, {k: v for k, v in given.items() if k not in spec.groups}, "args", notes)
    for group, inner in spec.groups.items():
        rows = _mapping(given, group, f"provider.args.{group}")
        moved = {inner.get(key, key): value for key, value in rows.items()}
        _put_all(flat, moved, f"provider.args.{group}", notes)
    for old, new in spec.renames.items():
        if old not in flat:
            continue
        value = flat.pop(old)
        if new in flat and flat[new] != value:
            notes.append(f"{new} wins over its older name {old}")
        flat.setdefault(new, value)
    return flat


def _put_all(into: dict[str, Json], rows: Mapping[str, Json], where: str, notes: list[str]) -> None:
    for name, value in rows.items():
        if name in into and into[name] != value:
            notes.append(f"{name} is given twice; the value from {where} counts")
        into[name] = value


def _seed(document: Mapping[str, Json], options: dict[str, Json], notes: list[str]) -> int:
    """The seed of the arguments (of their groups first) wins over the one at the top."""
    top = document.get("seed")
    seed = options.pop("seed", None)
    if seed is not None and top is not None and seed != top:
        notes.append("seed is given twice; the one among the arguments counts")
    seed = top if seed is None else seed
    if seed is None:
        return 0
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"seed must be a whole number, but is {_kind(seed)}.")
    return seed


def _check_shared(options: Mapping[str, Json]) -> None:
    seconds = options.get("max_seconds")
    if seconds is not None and (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 < seconds < float("inf")
    ):
        raise UsageError(f"max_seconds must be a number above 0, but is {_kind(seconds)}.")
    for name in ("session_id", "track_id"):
        if name in options and not isinstance(options[name], str):
            raise UsageError(f"{name} must be a text, but is {_kind(options[name])}.")


def _mapping(document: Mapping[str, Json], name: str, shown: str = "") -> Mapping[str, Json]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"'{shown or name}' must be an object, but is {_kind(value)}.")
    return value


def _list(document: Mapping[str, Json], name: str) -> list[Json]:
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"'{name}' must be a list, but is {_kind(value)}.")
    return value


def _kind(value: Json) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "an object" if isinstance(value, Mapping) else "a list"
