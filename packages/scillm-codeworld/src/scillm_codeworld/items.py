"""From a job's items to checked ones: a malformed item is named and set aside, the others live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from scillm_codeworld.plain import EXACT, SET, is_number, is_unicode, plain_problem, shown
from scillm_codeworld.records import BadItem, Item, Scoring, Tolerance, Variant

if TYPE_CHECKING:
    from scillm.records import Json

ID_KEYS = ("item_id", "task_id", "id")
ITEM_KEYS = frozenset({"task", "spec", *ID_KEYS, "context", "metadata"})
CONTEXT_KEYS = frozenset(
    {
        "code_variants",
        "input",
        "inputs",
        "expected",
        "report_inputs",
        "report_expected",
        "robustness_inputs",
        "hidden",
    }
)
EITHER_KEYS = frozenset({"tolerance", "entry", "comparison", "check", "scoring"})
"""May stand in the item or in its context, but not in both."""
PLAIN_KEYS = ("input", "inputs", "expected", "report_inputs", "report_expected", "hidden")
COMPARISONS = (EXACT, SET)
MAX_CODE_BYTES = 1_000_000
PYTHON = ("python",)

NOT_JSON = "not_plain_json"
"""Key of the note that stands in a job for an item no manifest could hold; see `storable`."""

Fields: TypeAlias = "Mapping[str, Json]"


class _Bad(Exception):  # noqa: N818  (a finding about an item, told in its result)
    """This item cannot be run; the text says why."""


def storable(item: Json) -> Json:
    """`item`, or a note in its place when it is not plain JSON and no manifest could hold it.

    The note is a malformed item with the same id: it is reported as such, in a replay as well.
    """
    problem = plain_problem(item)
    if problem is None:
        return item
    named = item if isinstance(item, Mapping) else {}
    ids = {key: named[key] for key in ID_KEYS if isinstance(named.get(key), str)}
    return {**{key: name for key, name in ids.items() if is_unicode(name)}, NOT_JSON: problem}


def parse_items(
    items: Sequence[Json], *, languages: Sequence[str] = PYTHON, generated: bool = False
) -> list[Item | BadItem]:
    """One Item or BadItem per entry, in order; ids are distinct. Code is in one of `languages`.

    With `generated` an item may come without variants, because they are still to be written.
    """
    found = [
        _parsed(given, index, languages, generated=generated) for index, given in enumerate(items)
    ]
    names = {item.id for item in found}
    taken: dict[str, int] = {}
    for index, item in enumerate(found):
        first = taken.setdefault(item.id, index)
        if first != index:
            name = f"{item.id}#{index + 1}"
            while name in names:
                name += "'"
            names.add(name)
            reason = f"the id {item.id!r} is already that of item {first + 1}"
            found[index] = BadItem(id=name, index=index, reason=reason)
    return found


def _parsed(
    given: Json, index: int, languages: Sequence[str], *, generated: bool
) -> Item | BadItem:
    default_id = f"item-{index + 1}"
    item_id = default_id
    if not isinstance(given, Mapping):
        reason = f"an item must be a mapping, but is {shown(given)}"
        return BadItem(id=item_id, index=index, reason=reason)
    try:
        item_id = _id(_one_of(given, ID_KEYS, default_id), "item id")
        return _item(given, item_id, index, languages, generated=generated)
    except _Bad as bad:
        return BadItem(id=item_id, index=index, reason=str(bad))


def _item(
    given: Fields, item_id: str, index: int, languages: Sequence[str], *, generated: bool
) -> Item:
    if NOT_JSON in given:
        raise _Bad(f"it is not plain JSON: {str(given[NOT_JSON]).replace('answer', 'item', 1)}")
    _only(given, ITEM_KEYS | EITHER_KEYS, "the item")
    task = _one_of(given, ("task", "spec"), None)
    if not isinstance(task, str) or not task.strip():
        raise _Bad(f"task must be a text that says what to solve, but is {shown(task)}")
    context = given.get("context")
    if not isinstance(context, Mapping):
        raise _Bad(f"context must be a mapping with code_variants, but is {shown(context)}")
    _only(context, CONTEXT_KEYS | EITHER_KEYS, "the context")
    for name in (*PLAIN_KEYS, "robustness_inputs"):
        problem = plain_problem(context.get(name))
        if problem:
            raise _Bad(f"{name} is not plain JSON: {problem.replace('answer', name, 1)}")
    metadata = given.get("metadata")
    if plain_problem(metadata):
        raise _Bad("metadata is not plain JSON")
    if not is_unicode(task):
        raise _Bad("task holds half of a surrogate pair")
    inputs, expected = _cases(context)
    report_inputs, report_expected = _report_cases(context, expected)
    return Item(
        id=item_id,
        index=index,
        task=task,
        variants=[]
        if generated and not context.get("code_variants")
        else _variants(context.get("code_variants"), languages),
        inputs=inputs,
        expected=expected,
        entry=_entry(_either(given, context, "entry")),
        tolerance=_tolerance(_either(given, context, "tolerance")),
        metadata=metadata,
        comparison=_comparison(_either(given, context, "comparison")),
        check=_check(_either(given, context, "check")),
        scoring=_scoring(_either(given, context, "scoring")),
        report_inputs=report_inputs,
        report_expected=report_expected,
        robustness_inputs=_list(context, "robustness_inputs"),
        context={key: value for key, value in context.items() if key != "code_variants"},
    )


def _one_of(given: Fields, names: Sequence[str], default: Json) -> Json:
    have = [name for name in names if name in given]
    if len(have) > 1:
        raise _Bad(f"give one of {' and '.join(have)}, not both")
    return given[have[0]] if have else default


def _either(item: Fields, context: Fields, name: str) -> Json:
    if name in item and name in context:
        raise _Bad(f"{name} stands in the item and in its context; give it once")
    return item.get(name, context.get(name))


def _only(given: Fields, known: frozenset[str], where: str) -> None:
    odd = [key for key in given if key not in known]
    if odd:
        raise _Bad(f"{where} has the unknown key {odd[0]!r}; known are {', '.join(sorted(known))}")


def _id(value: Json, what: str) -> str:
    # A slash separates item and variant in the names of findings.
    good = isinstance(value, str) and bool(value.strip()) and "/" not in value and is_unicode(value)
    if not good or not value.isprintable():
        raise _Bad(f"an {what} must be a printable text without '/', but is {shown(value)}")
    return str(value)


def _variants(given: Json, languages: Sequence[str]) -> list[Variant]:
    if isinstance(given, Mapping):
        pairs = [_coded(name, code) for name, code in given.items()]
    elif isinstance(given, list):
        pairs = [_pair(entry) for entry in given]
    else:
        raise _Bad(
            "context.code_variants must be a mapping from id to code, or a list of {id, code}, "
            f"but is {shown(given)}"
        )
    if not pairs:
        raise _Bad("context.code_variants is empty; at least one variant is needed")
    variants: dict[str, Variant] = {}
    for given_id, code, language in pairs:
        variant_id = _id(given_id, "id of a variant")
        if variant_id in variants:
            raise _Bad(f"the variant id {variant_id!r} came twice")
        if language not in languages:
            raise _Bad(
                f"the variant {variant_id!r} is in {shown(language)}, but allowed are "
                f"{', '.join(languages)}; see the option allowed_languages"
            )
        what = f"code of variant {variant_id!r}"
        variants[variant_id] = Variant(id=variant_id, code=_code(code, what), language=language)
    return list(variants.values())


def _coded(name: Json, code: Json) -> tuple[Json, Json, Json]:
    """An entry of the mapping: the code, or a mapping with it and its language."""
    if isinstance(code, Mapping):
        if "code" not in code or set(code) - {"code", "language"}:
            raise _Bad(f"variant {name!r} must be code or {{code, language}}, not {shown(code)}")
        return name, code["code"], code.get("language", PYTHON[0])
    return name, code, PYTHON[0]


def _pair(entry: Json) -> tuple[Json, Json, Json]:
    needed = {"id", "code"}
    if not isinstance(entry, Mapping) or set(entry) - {"language"} != needed:
        raise _Bad(f"a variant in a list must be {{id, code}}, but is {shown(entry)}")
    return entry["id"], entry["code"], entry.get("language", PYTHON[0])


def _code(code: Json, what: str) -> str:
    if not isinstance(code, str) or not is_unicode(code):
        raise _Bad(f"the {what} must be a text, but is {shown(code)}")
    size = len(code.encode())
    if size > MAX_CODE_BYTES:
        raise _Bad(f"the {what} has {size} bytes; at most {MAX_CODE_BYTES} are taken")
    return code


def _cases(context: Fields) -> tuple[list[Json], list[Json] | None]:
    if ("input" in context) == ("inputs" in context):
        raise _Bad("give either input (one case) or inputs (a list of cases)")
    if "input" in context:
        single = [context["expected"]] if "expected" in context else None
        return [context["input"]], single
    inputs = context["inputs"]
    if not isinstance(inputs, list) or not inputs:
        raise _Bad(f"inputs must be a list with at least one case, but is {shown(inputs)}")
    if "expected" not in context:
        return inputs, None
    expected = context["expected"]
    if not isinstance(expected, list) or len(expected) != len(inputs):
        came = f"has {len(expected)}" if isinstance(expected, list) else f"is {shown(expected)}"
        raise _Bad(f"expected must be a list of {len(inputs)} answers, as inputs, but {came}")
    return inputs, expected


def _list(context: Fields, name: str) -> list[Json]:
    given = context.get(name, [])
    if not isinstance(given, list):
        raise _Bad(f"{name} must be a list of inputs, but is {shown(given)}")
    return given


def _report_cases(
    context: Fields, expected: Sequence[Json] | None
) -> tuple[list[Json], list[Json]]:
    inputs, answers = _list(context, "report_inputs"), _list(context, "report_expected")
    if (expected is None) != ("report_expected" not in context) and inputs:
        raise _Bad("report_inputs need report_expected exactly when inputs have expected answers")
    if "report_expected" in context and len(inputs) != len(answers):
        raise _Bad(
            f"report_expected must have {len(inputs)} answers, as report_inputs, but has "
            f"{len(answers)}"
        )
    return inputs, answers


def _comparison(given: Json) -> str:
    if given is not None and given not in COMPARISONS:
        raise _Bad(f"comparison must be one of {', '.join(COMPARISONS)}, but is {shown(given)}")
    return given or EXACT


def _check(given: Json) -> str | None:
    return None if given is None else _code(given, "check")


def _scoring(given: Json) -> Scoring | None:
    if given is None:
        return None
    parts = {"code": given} if isinstance(given, str) else given
    if not isinstance(parts, Mapping) or "code" not in parts:
        raise _Bad(f"scoring must be code, or a mapping with code, but is {shown(given)}")
    _only(parts, frozenset({"lang", "code", "entry"}), "scoring")
    if parts.get("lang", "py") not in ("py", "python"):
        raise _Bad(f"scoring.lang must be py, but is {shown(parts['lang'])}")
    entry = parts.get("entry", "score")
    if not isinstance(entry, str) or not entry.isidentifier():
        raise _Bad(f"scoring.entry must be the name of a function, but is {shown(entry)}")
    return Scoring(code=_code(parts["code"], "scoring code"), entry=entry)


def _entry(given: Json) -> str:
    if given is None:
        return "solve"
    if not isinstance(given, str) or not given.isidentifier():
        raise _Bad(f"entry must be the name of a function, but is {shown(given)}")
    return given


def _tolerance(given: Json) -> Tolerance | None:
    if given is None:
        return None
    parts = {"relative": given} if is_number(given) else given
    if not isinstance(parts, Mapping) or not parts or set(parts) - {"relative", "absolute"}:
        raise _Bad(
            "tolerance must be a number (relative), or a mapping with relative, absolute or both, "
            f"but is {shown(given)}"
        )
    for name, value in parts.items():
        if not is_number(value) or not 0 <= value < float("inf"):
            raise _Bad(f"tolerance.{name} must be a number, 0 or more, but is {shown(value)}")
    return Tolerance(**{name: float(value) for name, value in parts.items()})
