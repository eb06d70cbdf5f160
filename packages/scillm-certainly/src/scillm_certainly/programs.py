"""Whether elaborating some Lean may run programs that it brings along, read from its text. Pure.

Decided outside of Lean, because such a program can read and write the memory of the process that it
runs in: what is seen there afterwards is seen with its eyes. So this errs on the side of yes, which
costs time; no is said only of text in which nothing stands that Lean would run.
"""

from __future__ import annotations

import re

PARTS = (
    "autoparam", "builtin", "bv_", "compile", "csimp", "declare_", "elab", "eval_", "extern",
    "implemented", "include_str", "initialize", "macro", "native", "parser", "propagator",
    "reducebool", "reducenat", "register_", "run_", "simproc", "syntax", "unexpander", "unsafe",
    "widget",
)  # fmt: skip
"""What stands in the words that let Lean run something: keywords, attributes, names."""
WORDS = frozenset({"meta"})
HARMLESS_WORDS = frozenset({"elab_as_elim", "eval_prec", "eval_prio"})
COMMANDS = frozenset({"check", "check_failure", "print", "reduce", "synth", "guard_msgs"})
"""Commands with a # that run nothing."""
ATTRIBUTES = frozenset(
    {
        "always_inline", "cases_eliminator", "class", "congr", "default_instance", "elab_as_elim",
        "expose", "ext", "grind", "high", "implicit_reducible", "induction_eliminator",
        "inherit_doc", "inline", "instance", "irreducible", "local", "low", "mid", "noinline",
        "norm_num", "reducible", "refl", "scoped", "semireducible", "simp", "specialize", "symm",
        "trans",
    }
)  # fmt: skip
LIBRARIES = re.compile(r"(Init|Std)(\.\w+)*")
"""What may be imported without bringing Lean's own programming interface along."""
WORD = re.compile(r"\w+")
COMMAND = re.compile(r"#\s*([A-Za-z]\w*)")
IMPORTED = re.compile(r"\bimport\b(?:\s+all\b)?(?:\s+(\S+))?")
OPTION = re.compile(r"\(\s*[^\s()]*\s*(?::=|/-|--)")
"""An option of a tactic, `simp (maxSteps := f 3)`: Lean runs the term to know its value.

A named argument looks the same. A comment may stand before or after the name.
"""
QUOTED = re.compile(r"`\(|``|`\[|\$\S")
"""Signs of quoted syntax, which only programs make."""
OPENED = re.compile(r"@\s*\[|\battribute\b\s*\[?")
CLOSED = re.compile(r"[^\[\]]*\]")
CORRUPTING = frozenset(
    {"axiom", "sorry", "admit", "unsafe", "extern", "implemented_by", "lcProof", "lcUnreachable"}
)


def runs_programs(code: str) -> bool:
    """Whether Lean may run something of this text while it elaborates it."""
    return (
        any(_may_run(word) for word in WORD.findall(code))
        or any(name not in COMMANDS for name in COMMAND.findall(code))
        or any(not LIBRARIES.fullmatch(name) for name in IMPORTED.findall(code))
        or QUOTED.search(code) is not None
        or OPTION.search(code) is not None
        or any(not _is_plain(code, found) for found in OPENED.finditer(code))
    )


def may_corrupt(code: str) -> bool:
    """Whether a program of this text could misuse memory without hiding that it does.

    A false proof is enough: with it, arrays are read and written beyond their ends. It decides only
    how soon a worker that runs programs is replaced.
    """
    return not CORRUPTING.isdisjoint(WORD.findall(code))


def _may_run(word: str) -> bool:
    small = word.lower()
    return small in WORDS or (small not in HARMLESS_WORDS and any(part in small for part in PARTS))


def _is_plain(code: str, found: re.Match[str]) -> bool:
    """Whether the attributes that begin here are all known to run nothing."""
    if not found[0].endswith("["):
        return False
    inside = CLOSED.match(code, found.end())
    if inside is None:
        return False
    return all(word in ATTRIBUTES or word.isdecimal() for word in WORD.findall(inside[0]))
