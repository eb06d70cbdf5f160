"""What a request must be before Lean sees it, and what names it in the cache. Pure."""

from __future__ import annotations

import re

from scillm.errors import UsageError
from scillm.runs.canonical import digest

from scillm_certainly.records import MAX_CODE_BYTES, CheckRequest, Policy

NAME = re.compile(r"[^\W\d][\w'!?]*(\.[^\W\d][\w'!?]*)*")
IMPORT = re.compile(r"(?:public\s+|meta\s+|private\s+)*import\s+(?:all\s+)?([\w.«»]+)\s*")
SPACE = re.compile(r"\s+|--[^\n]*|/-(?:[^-]|-(?!/))*-/|module\b|prelude\b")
MAX_HEARTBEATS = 100_000_000
MAX_TIME_S = 3600.0


def fault_of(request: CheckRequest) -> str:
    """Why the request cannot be given to Lean, or ""."""
    if not request.code.strip():
        return "there is no code"
    for what, text in (("code", request.code), ("reference", request.reference or "")):
        fault = text_fault(what, text)
        if fault:
            return fault
    return ""


def text_fault(what: str, text: str) -> str:
    """Why a text cannot be handed to Lean at all, or ""; `what` is its name."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"the {what} is not valid text: it holds a lone surrogate"
    if size > MAX_CODE_BYTES:
        return f"the {what} has {size} bytes; at most {MAX_CODE_BYTES} are taken"
    return f"the {what} holds a NUL character" if "\0" in text else ""


def checked_policy(policy: Policy) -> Policy:
    """`policy` if it can be kept; `UsageError` naming what is wrong otherwise."""
    if not 0 < policy.heartbeats <= MAX_HEARTBEATS:
        raise UsageError(
            f"heartbeats must be from 1 to {MAX_HEARTBEATS}, but is {policy.heartbeats}."
        )
    if not 0 < policy.time_s <= MAX_TIME_S:
        raise UsageError(
            f"The time of a check must be above 0 and at most {MAX_TIME_S:g} s, but is "
            f"{policy.time_s:g}."
        )
    for axiom in policy.axioms:
        if not NAME.fullmatch(axiom):
            raise UsageError(f"An axiom is permitted by its full name, but {axiom!r} is no name.")
    return policy


def cache_key(request: CheckRequest) -> str:
    """Two requests with the same key get the same verdict from the same Lean."""
    policy = request.policy
    return digest(
        {
            "code": request.code,
            "reference": request.reference,
            "axioms": sorted(set(policy.axioms)),
            "heartbeats": policy.heartbeats,
        }
    )


def imports_of(code: str) -> tuple[str, ...]:
    """The modules the code imports, as far as text tells; decides only which worker is warm."""
    found: list[str] = []
    at = 0
    while True:
        if match := SPACE.match(code, at):
            at = match.end()
        elif match := IMPORT.match(code, at):
            found.append(match[1])
            at = match.end()
        else:
            return tuple(sorted(set(found)))
