"""What of a model's answer can be used: its programs, linted, with ids of their own."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from scillm.errors import JsonTextError, SchemaError
from scillm.structured import check, extract_json

from scillm_codeworld.generate.contract import MANY_SCHEMA
from scillm_codeworld.plain import is_unicode
from scillm_codeworld.records import NO_ENTRY_POINT, SYNTAX_ERROR

if TYPE_CHECKING:
    from scillm.records import Json

UNPARSEABLE = "generation_empty_or_unparseable"
MAX_CODE_CHARS = 200_000
MAX_ID_CHARS = 60
TOLD = ("title", "complexity_tier", "rationale", "notes")


@frozen(kw_only=True)
class Draft:
    """A program a model wrote. `problem` says why it cannot be used, or is empty."""

    id: str
    code: str = field(repr=False)
    told: Mapping[str, str] = field(factory=dict)
    """What the model said about it."""
    problem: str = ""
    twin: str = ""
    """The id of a program with the same code, if that is the problem."""


def read_drafts(
    text: str, *, entry: str, most: int, taken: Mapping[str, str] | None = None
) -> tuple[list[Draft], str]:
    """The programs in an answer, at most `most`, and what is wrong with the answer, or "".

    `taken` are ids that exist, with their code: a new program gets another id, and the same code
    once more is a problem of the draft.
    """
    try:
        found = extract_json(text, root="object").value
        check(found, MANY_SCHEMA)
    except (JsonTextError, SchemaError) as error:
        return [], f"{UNPARSEABLE}: {error.message}"
    rows = found["variants"]
    if not rows:
        return [], f"{UNPARSEABLE}: the answer has no variants"
    known = dict(taken or {})
    drafts: list[Draft] = []
    for number, row in enumerate(rows[:most]):
        draft = _draft(row, number, known)
        problem = lint(draft.code, entry)
        twin = "" if problem else _twin(draft.code, known)
        draft = evolve(draft, problem=f"the same code as {twin!r}" if twin else problem, twin=twin)
        known[draft.id] = "" if draft.problem else draft.code
        drafts.append(draft)
    surplus = len(rows) - len(drafts)
    return drafts, f"{surplus} more than asked for were left out" if surplus else ""


def lint(code: str, entry: str) -> str:
    """Why Python code cannot run here, as far as that can be told without running it; or ""."""
    if not is_unicode(code):
        return "the code holds half of a surrogate pair"
    if len(code) > MAX_CODE_CHARS:
        return f"the code has {len(code)} characters; at most {MAX_CODE_CHARS} are taken"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is nobody's error here
            tree = ast.parse(code)
    except SyntaxError as error:
        return f"{SYNTAX_ERROR}: {error.msg} (line {error.lineno})"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{SYNTAX_ERROR}: {type(error).__name__}: {error}"
    if entry not in _bound(tree.body):
        return f"{NO_ENTRY_POINT}: the code binds no {entry!r} at its top level"
    return ""


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    """Names that top-level statements bind, also inside if and try."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(statement.name)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            names |= {(row.asname or row.name).split(".")[0] for row in statement.names}
        else:
            names |= {
                row.id
                for row in ast.walk(statement)
                if isinstance(row, ast.Name) and isinstance(row.ctx, ast.Store)
            }
            names |= {row.name for row in ast.walk(statement) if isinstance(row, ast.FunctionDef)}
    return names


def _twin(code: str, known: Mapping[str, str]) -> str:
    return next((name for name, other in known.items() if other == code), "")


def _draft(row: Mapping[str, Json], number: int, taken: Collection[str]) -> Draft:
    told = {name: row[name] for name in TOLD if row[name] and is_unicode(row[name])}
    return Draft(id=unused(usable_id(row["id"], number), taken), code=row["code"], told=told)


def usable_id(given: str, number: int) -> str:
    """A model's id as one of ours: printable, without a slash, short, never empty."""
    signs = [sign for sign in given if sign.isprintable() and sign != "/" and is_unicode(sign)]
    return "".join(signs).strip()[:MAX_ID_CHARS] or f"variant-{number + 1}"


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, or with a number after it when it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found
