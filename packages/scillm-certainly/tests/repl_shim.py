"""A program that speaks leanprover-community's REPL protocol, on the embedded Lean.

An environment is kept as the text that leads to it; `#print axioms` is answered from our checker,
because the embedded library shows its own theorems as axioms there.
"""

from __future__ import annotations

import json
import pickle
import re
import sys

import anyio
from scillm_certainly.backends.worker import Worker
from scillm_certainly.records import CheckRequest, Diagnostic, Facts

AXIOMS = re.compile(r"#print axioms (\S+)")


def commands() -> list[str]:
    lines: list[str] = []
    for line in sys.stdin:
        if line.strip():
            lines.append(line)
        elif lines:
            return lines
    return lines


async def main() -> None:
    worker = Worker(pickle.loads(bytes.fromhex(sys.argv[1])))
    await worker.ready()
    texts: list[str] = []
    while lines := commands():
        command = json.loads("".join(lines))
        asked = AXIOMS.fullmatch(command["cmd"])
        text = texts[command["env"]] if asked else command["cmd"]
        request = CheckRequest(code=text)
        seen = await worker.check(request, limit_s=60)
        # One process does both here: what stands in for a REPL need not be believed.
        facts = await worker.judge(request, seen, None, limit_s=60)
        texts.append(text)
        messages = (
            [axioms(asked[1], facts)] if asked else [message(row) for row in facts.diagnostics]
        )
        reply = {"env": len(texts) - 1, **({"messages": messages} if messages else {})}
        sys.stdout.write(json.dumps(reply) + "\n\n")
        sys.stdout.flush()


def axioms(name: str, facts: Facts) -> dict[str, object]:
    found = [row.axioms for row in facts.declarations if row.name == name]
    if not found:
        return written("error", f"Unknown constant `{name}`")
    if not found[0]:
        return written("info", f"'{name}' does not depend on any axioms")
    return written("info", f"'{name}' depends on axioms: [{', '.join(found[0])}]")


def message(row: Diagnostic) -> dict[str, object]:
    return written(row.severity, row.text, row.start.line, row.start.column)


def written(severity: str, data: str, line: int = 1, column: int = 0) -> dict[str, object]:
    return {"severity": severity, "pos": {"line": line, "column": column}, "data": data}


anyio.run(main)
