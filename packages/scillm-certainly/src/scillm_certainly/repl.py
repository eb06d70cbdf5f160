"""`scillm-lean-repl`: leanprover-community's REPL protocol on standard input and output.

Source: github.com/leanprover-community/repl (8948401). An environment is kept as the text that
leads to it, and a command in it is that text with the command after it, checked on an untouched
Lean. So nothing piles up in Lean's memory, and a long history costs its elaboration each time.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field
from scillm import portal
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly.items import policy_of
from scillm_certainly.pool.resident import Resident
from scillm_certainly.records import CheckRequest, Policy, ProofVerdict
from scillm_certainly.replies import fault_of, reply_of
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.records import Json

PRINT_AXIOMS = re.compile(r"\s*#print\s+axioms\s+(\S+)\s*")
FORMAT = "scillm-lean-repl/1"
NOT_OFFERED = {
    "tactic": "Tactic mode is not offered; send the whole proof as a command.",
    "unpickleProofStateFrom": "Proof states are not offered; send the whole proof as a command.",
}


@define(kw_only=True)
class Session:
    """One dialogue. Remembers the text of every environment, by its number."""

    check: Callable[[CheckRequest], ProofVerdict]
    policy: Policy = field(factory=Policy)
    texts: list[str] = field(factory=list)

    def answer(self, asked: Json) -> dict[str, Json]:
        """The reply to one command; `{"message"}` when there is none."""
        if not isinstance(asked, Mapping):
            return {"message": "A command must be a JSON object."}
        try:
            for name, text in NOT_OFFERED.items():
                if name in asked:
                    return {"message": text}
            if "pickleTo" in asked:
                return self._pickle(asked)
            if "unpickleEnvFrom" in asked:
                return self._unpickle(asked["unpickleEnvFrom"])
            return self._run(asked)
        except UsageError as error:
            return {"message": error.message}
        except OSError as error:
            return {"message": f"{error.filename}: {error.strerror}"}
        except ScillmError as error:
            return {"message": f"certainly: {error.message}"}

    def _run(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        before = self._text_of(asked.get("env"))
        code = asked.get("cmd")
        if code is None and isinstance(asked.get("path"), str):
            code = _read(Path(asked["path"]))
        if not isinstance(code, str):
            raise UsageError("A command needs cmd, a text, or path, the name of a file.")
        shown = PRINT_AXIOMS.fullmatch(code)
        if shown is not None and before:
            return {"env": self._keep(before), "messages": [self._axioms(shown[1], before)]}
        whole = f"{before}{code}"
        verdict = self.check(CheckRequest(code=whole, policy=self.policy))
        fault = "" if not code.strip() else fault_of(verdict)
        if fault:
            return {"message": fault}
        reply = reply_of(verdict, after_line=before.count("\n"))
        return {"env": self._keep(f"{whole}\n"), **reply}

    def _axioms(self, name: str, before: str) -> dict[str, Json]:
        """The embedded library shows its own theorems as axioms; our checker knows better."""
        verdict = self.check(CheckRequest(code=before, policy=self.policy))
        found = [row.axioms for row in verdict.declarations if row.name == name]
        if not found:
            return _message("error", f"Unknown constant `{name}`")
        if not found[0]:
            return _message("info", f"'{name}' does not depend on any axioms")
        return _message("info", f"'{name}' depends on axioms: [{', '.join(found[0])}]")

    def _text_of(self, number: Json) -> str:
        if number is None:
            return ""
        if isinstance(number, bool) or not isinstance(number, int):
            raise UsageError("env must be a number.")
        if not 0 <= number < len(self.texts):
            raise UsageError("Unknown environment.")
        return self.texts[number]

    def _keep(self, text: str) -> int:
        self.texts.append(text)
        return len(self.texts) - 1

    def _pickle(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        if "env" not in asked:
            raise UsageError("Only environments can be pickled, not proof states.")
        text = self._text_of(asked["env"])
        body = {"format": FORMAT, "text": text}
        Path(asked["pickleTo"]).write_text(json.dumps(body), encoding="utf-8")
        return {"env": asked["env"]}

    def _unpickle(self, name: Json) -> dict[str, Json]:
        try:
            body = json.loads(_read(Path(name)))
            if body["format"] != FORMAT:
                raise UsageError(f"{name} is no environment of this program.")
            return {"env": self._keep(str(body["text"]))}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{name} is no environment of this program.") from error


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8.") from error


def _message(severity: str, text: str) -> dict[str, Json]:
    start = {"line": 1, "column": 0}
    return {"severity": severity, "pos": start, "endPos": start, "data": text}


def commands(source: BinaryIO) -> Iterator[bytes]:
    """The commands of a stream: lines up to an empty one."""
    lines: list[bytes] = []
    for line in source:
        if line.strip():
            lines.append(line)
        elif lines:
            yield b"".join(lines)
            lines = []
    if lines:
        yield b"".join(lines)


def main() -> None:
    """Answer commands until standard input ends. Arguments are ignored: clients send Lake's."""
    values = load(more=SETTINGS)
    leans = Resident({**values, "certainly_spare": False, "certainly_workers": 1})
    session = Session(
        check=lambda request: portal.call(leans.check, request),
        policy=policy_of(defaults_of(values)),
    )
    for command in commands(sys.stdin.buffer):
        try:
            asked = json.loads(command)
        except (ValueError, RecursionError) as error:
            reply: dict[str, Json] = {"message": f"Could not parse JSON: {error}"}
        else:
            reply = session.answer(asked)
        sys.stdout.write(json.dumps(reply, ensure_ascii=False) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
