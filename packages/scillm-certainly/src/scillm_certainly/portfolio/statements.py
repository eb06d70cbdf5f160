"""A requirement as a Lean statement with a hole for its proof. Pure.

Text becomes part of a file only where it cannot end the statement it is put into: what it would
say after that would be another claim.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from scillm_certainly.records import Requirement

NAME = "requirement"
HEAD = re.compile(r"(?:theorem|lemma|example)\b\s*")
OWN_NAME = re.compile(r"[^\W\d][\w'!?]*(?:\.[^\W\d][\w'!?]*)*")
HOLE = re.compile(r"\s*:=\s*(?:by\s+)?sorry\s*\Z")
NOISE = re.compile(
    r"--[^\n]*|/-(?:[^-/]|-(?!/)|/(?!-))*-/|\"(?:[^\"\\]|\\.)*\"|(?<![\w'!?])'\\?[^'\s]'"
)
HIDES = re.compile(r"[«»]|\br#*\"")
"""Escaped names and raw strings: what stands in them looks like brackets and is none."""
QUANTIFIED = re.compile(
    r"\s*∀\s*((?:[({⦃][^(){}⦃⦄]*[)}⦄]\s*)+|[^\W\d][\w' ]*?(?::[^,]*)?)\s*,", re.DOTALL
)
GROUP = re.compile(r"[({⦃]([^:(){}⦃⦄]*):")
DEFINED = re.compile(r"^[ \t]*(?:private\s+|protected\s+)*def\s+([^\s:({\[]+)", re.MULTILINE)
OPEN, CLOSE = "([{⟨⦃", ")]}⟩⦄"
OFF = "set_option autoImplicit false in\n"
"""So that an English word is an unknown name, and not a variable that Lean makes up."""


@frozen(kw_only=True)
class Statement:
    """A claim without its proof. `before` is the file up to it, `head` ends where `:=` begins.

    `variables` are bound by a leading ∀, `named` by the theorem's own parameters.
    """

    head: str
    before: str = ""
    name: str = NAME
    variables: Sequence[str] = ()
    named: Sequence[str] = ()
    defined: Sequence[str] = ()
    """Functions of the text before it."""
    bare: str = ""
    """The proposition alone, where the text was one."""

    def code(self, tactics: str) -> str:
        """The whole file with this proof."""
        proof = "\n".join(f"  {line}" for line in tactics.splitlines())
        return f"{self.before}{OFF}{self.head} := by\n{proof}\n"

    def negated(self, tactics: str) -> str:
        """The file that proves the opposite of `bare`."""
        proof = "\n".join(f"  {line}" for line in tactics.splitlines())
        return f"{self.before}{OFF}theorem {NAME} : ¬ (\n{self.bare}\n) := by\n{proof}\n"


def statement_of(requirement: Requirement) -> Statement | None:
    """The statement that the text would be, or None when it cannot be one."""
    text = HOLE.sub("", requirement.text.strip())
    if not closes_itself(text):
        return None
    before = "".join(f"import {module}\n" for module in requirement.imports)
    if requirement.preamble:
        before += f"{requirement.preamble.rstrip()}\n"
    defined = tuple(dict.fromkeys(DEFINED.findall(requirement.preamble)))
    started = HEAD.match(text)
    if started is None:
        found = QUANTIFIED.match(text)
        return Statement(
            before=before,
            head=f"theorem {NAME} : (\n{text}\n)",
            variables=_names(found[1]) if found else (),
            defined=defined,
            bare=text,
        )
    rest = text[started.end() :]
    named = OWN_NAME.match(rest)
    own = bool(named) and started[0].strip() != "example"
    name = named[0] if named and own else NAME
    tail = rest[len(name) :] if own else f" {rest}"
    parameters, goal = _split(tail)
    found = QUANTIFIED.match(goal)
    return Statement(
        before=before,
        head=f"theorem {name}{tail}",
        name=name,
        variables=_names(found[1]) if found else (),
        named=_names(parameters),
        defined=defined,
    )


def closes_itself(text: str) -> bool:
    """Whether brackets close in order, and no `:=` stands outside of them or ends the statement."""
    bare = NOISE.sub(" ", text)
    if HIDES.search(text) or "/-" in bare or "-/" in bare or '"' in bare:
        return False
    stack: list[str] = []
    for place, sign in enumerate(bare):
        if sign in OPEN:
            stack.append(sign)
        elif sign in CLOSE:
            if not stack or stack.pop() != OPEN[CLOSE.index(sign)]:
                return False
        elif sign == ":" and not stack and bare[place : place + 2] == ":=":
            return False
    return not stack


def _split(tail: str) -> tuple[str, str]:
    """Parameters and goal of a theorem's head: the first colon outside of brackets parts them."""
    depth = 0
    for place, sign in enumerate(tail):
        depth += (sign in OPEN) - (sign in CLOSE)
        if sign == ":" and depth == 0:
            return tail[:place], tail[place + 1 :]
    return tail, ""


def _names(binders: str) -> tuple[str, ...]:
    groups = GROUP.findall(binders) or [binders.split(":")[0]]
    names = [name for group in groups for name in group.split()]
    return tuple(name for name in names if OWN_NAME.fullmatch(name))
