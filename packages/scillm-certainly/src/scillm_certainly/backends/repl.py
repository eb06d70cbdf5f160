"""A worker on an existing leanprover-community REPL binary.

A REPL has no second kernel pass, no judge and no nonce, so its best verdict is proved_unreplayed.
Protocol: https://github.com/leanprover-community/repl (JSON commands, each ended by a blank line).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
from attrs import evolve
from scillm.errors import ProverError

from scillm_certainly import protocol
from scillm_certainly.backends.worker import START_S, Worker
from scillm_certainly.intake import imports_of
from scillm_certainly.records import (
    CheckRequest,
    Declaration,
    Diagnostic,
    Facts,
    Position,
    Sorry,
)

if TYPE_CHECKING:
    from scillm.records import Json

THEOREM = re.compile(
    r"^[ \t]*(?:@\[[^\]]*\]\s*)?(?:(?:private|protected|nonrec)\s+)*"
    r"(?:theorem|lemma)\s+([^\s:({\[]+)",
    re.MULTILINE,
)
EXAMPLE = re.compile(r"^[ \t]*example\b", re.MULTILINE)
AXIOMS = re.compile(r"depends on axioms: \[([^\]]*)\]")
NO_AXIOMS = "does not depend on any axioms"
VERSION = {"cmd": "#eval Lean.versionString"}


class ReplWorker(Worker):
    """A REPL process. Remembers how many commands it was given."""

    async def ready(self, *, within_s: float = START_S) -> None:
        """Wait until it answers, and ask it for its version."""
        if self.is_ready:
            return
        try:
            with anyio.fail_after(within_s):
                if self._launched is None:
                    self._launched = await self._answer(protocol.LAUNCHED)
                told = await self._ask(VERSION)
        except TimeoutError as error:
            self.close()
            raise ProverError(f"The REPL did not answer within {within_s:g} s.") from error
        except BaseException:
            # Half of an answer may have been read.
            self.close()
            raise
        rows = told.get("messages") or [{}]
        version = str(rows[0].get("data", "")).strip().strip('"')
        self.lean = evolve(self.lean, version=version, confinement=self._launched)
        self.is_ready = True

    async def check(self, request: CheckRequest, *, limit_s: float) -> Facts:
        """What the REPL says about `request.code`, and which axioms its theorems rest on."""
        self.checks += 1
        try:
            with anyio.fail_after(limit_s):
                reply = await self._ask({"cmd": request.code})
                if "env" not in reply:
                    return Facts(fault=str(reply.get("message", reply)), fault_kind="lean")
                declared = [
                    await self._declaration(name, reply["env"])
                    for name in protocol.distinct(THEOREM.findall(request.code))
                ]
        except TimeoutError:
            self.close()
            return Facts(fault=f"not done within {limit_s:g} s", fault_kind="timeout")
        except ProverError as error:
            self.close()
            return Facts(fault=error.message, fault_kind="died")
        except BaseException:
            self.close()
            raise
        self.warm.add(imports_of(request.code))
        return Facts(
            diagnostics=[_diagnostic(row) for row in reply.get("messages", ())],
            sorries=[_sorry(row) for row in reply.get("sorries", ())],
            declarations=[row for row in declared if row is not None],
            examples=len(EXAMPLE.findall(request.code)),
        )

    async def _declaration(self, name: str, environment: int) -> Declaration | None:
        reply = await self._ask({"cmd": f"#print axioms {name}", "env": environment})
        for row in reply.get("messages", ()):
            if row["severity"] == "info" and NO_AXIOMS in row["data"]:
                return Declaration(name=name, kind="theorem")
            found = AXIOMS.search(row["data"])
            if found is not None:
                axioms = [part.strip() for part in found[1].split(",")]
                return Declaration(name=name, kind="theorem", axioms=axioms)
        return None

    async def _ask(self, command: Mapping[str, Json]) -> Mapping[str, Json]:
        if not await self.process.write(json.dumps(command).encode() + b"\n\n"):
            raise ProverError("The REPL no longer listens.")
        lines: list[bytes] = []
        while (line := await self.process.line()) is not None:
            if line.strip():
                lines.append(line)
            elif lines:
                return _document(lines)
        raise ProverError("The REPL ended by itself.")


def _document(lines: Sequence[bytes]) -> Mapping[str, Json]:
    try:
        document = json.loads(b"\n".join(lines))
    except ValueError as error:
        raise ProverError(f"The REPL's answer is not JSON: {error}.") from error
    if not isinstance(document, Mapping):
        raise ProverError("The REPL's answer is no JSON object.")
    return document


def _sorry(row: Mapping[str, Json]) -> Sorry:
    start, end = row.get("pos"), row.get("endPos")
    return Sorry(
        goal=row.get("goal", ""),
        start=None if start is None else Position(**start),
        end=None if end is None else Position(**end),
    )


def _diagnostic(row: Mapping[str, Json]) -> Diagnostic:
    end = row.get("endPos")
    return Diagnostic(
        severity=row["severity"],
        text=row["data"].strip(),
        start=Position(**row["pos"]),
        end=None if end is None else Position(**end),
        kind="hasSorry" if "declaration uses" in row["data"] and "sorry" in row["data"] else "",
    )
