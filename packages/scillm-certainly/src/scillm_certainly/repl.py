"""`scillm-lean-repl`: leanprover-community's REPL protocol on standard input and output.

Source: github.com/leanprover-community/repl (8948401). An environment is kept as the text that
leads to it, and a command in it is that text with the command after it, checked on an untouched
Lean. So nothing piles up in Lean's memory, and a long history costs its elaboration each time. A
proof state is kept in the same way, and lives in a Lean of its own, whose word makes no verdict.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field
from scillm import portal
from scillm.errors import ScillmError, UsageError
from scillm.plugins.settings import load

from scillm_certainly.backends.choose import choose
from scillm_certainly.dialogue.desk import Desk
from scillm_certainly.dialogue.options import Wanted, wanted
from scillm_certainly.dialogue.replies import (
    goals_in,
    numbered,
    reply_of_state,
    reply_to_step,
)
from scillm_certainly.items import policy_of
from scillm_certainly.pickles import document, text_of, write
from scillm_certainly.pool.resident import Resident
from scillm_certainly.records import CheckRequest, ProofVerdict
from scillm_certainly.replies import fault_of, left_out, reply_of
from scillm_certainly.settings import SETTINGS, defaults_of

if TYPE_CHECKING:
    from scillm.records import Json

PRINT_AXIOMS = re.compile(r"\s*#print\s+axioms\s+(\S+)\s*")
FORMAT = "scillm-lean-repl/1"
STATE_FORMAT = "scillm-lean-repl-state/1"


@define(kw_only=True)
class Session:
    """One dialogue. Remembers the text of every environment, by its number; the desk has states."""

    check: Callable[[CheckRequest], ProofVerdict]
    desk: Desk
    texts: list[str] = field(factory=list)

    def answer(self, asked: Json) -> dict[str, Json]:
        """The reply to one command; `{"message"}` when there is none."""
        if not isinstance(asked, Mapping):
            return {"message": "A command must be a JSON object."}
        try:
            return self._answer(asked)
        except UsageError as error:
            return {"message": error.message}
        except OSError as error:
            return {"message": f"{error.filename}: {error.strerror}"}
        except ScillmError as error:
            return {"message": f"certainly: {error.message}"}

    def _answer(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        if "tactic" in asked:
            return self._step(asked)
        if "pickleTo" in asked:
            return self._pickle_state(asked) if "proofState" in asked else self._pickle(asked)
        if "unpickleProofStateFrom" in asked:
            return self._unpickle_state(asked)
        if "unpickleEnvFrom" in asked:
            return self._unpickle(asked)
        return self._run(asked)

    def _run(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        more = wanted(asked)
        before = self._text_of(asked.get("env"))
        code = asked.get("cmd")
        if code is None and isinstance(asked.get("path"), str):
            code = text_of(Path(asked["path"]))
        if not isinstance(code, str):
            raise UsageError("A command needs cmd, a text, or path, the name of a file.")
        shown = PRINT_AXIOMS.fullmatch(code)
        if shown is not None and before:
            return {"env": self._keep(before), "messages": [self._axioms(shown[1], before)]}
        whole = f"{before}{code}"
        verdict = self.check(CheckRequest(code=whole, policy=self.desk.policy))
        fault = "" if not code.strip() else fault_of(verdict)
        if fault:
            return {"message": fault}
        reply = self._with_goals(verdict, whole, more, before.count("\n"))
        return {"env": self._keep(f"{whole}\n"), **reply}

    def _with_goals(
        self, verdict: ProofVerdict, whole: str, more: Wanted, after: int
    ) -> dict[str, Json]:
        """The reply, with a proof state at every goal and with the goals that were asked for."""
        reply = reply_of(verdict, after_line=after)
        sorries = reply.pop("sorries", [])
        if verdict.sorries and self.desk.offered:
            places = [at for at, _ in left_out(verdict, after_line=after)]
            sorries = numbered(sorries, places, whole, self.desk)
        goals = portal.call(partial(goals_in, whole, more, self.desk, after_line=after))
        sorries = [*sorries, *goals["roots"]]
        return {
            **reply,
            **({"sorries": sorries} if sorries else {}),
            **({"tactics": goals["tactics"]} if goals["tactics"] else {}),
        }

    def _axioms(self, name: str, before: str) -> dict[str, Json]:
        """The embedded library shows its own theorems as axioms; our checker knows better."""
        verdict = self.check(CheckRequest(code=before, policy=self.desk.policy))
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

    def _step(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        _only(asked, "tactic", "proofState")
        step = partial(self.desk.step, asked.get("proofState"), asked["tactic"])
        return reply_to_step(portal.call(step))

    def _pickle(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        _only(asked, "pickleTo", "env")
        if asked.get("env") is None:
            raise UsageError("pickleTo needs env, or proofState, the number of what is pickled.")
        text = self._text_of(asked["env"])
        write(asked["pickleTo"], {"format": FORMAT, "text": text})
        return {"env": asked["env"]}

    def _unpickle(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        _only(asked, "unpickleEnvFrom")
        body = document(asked["unpickleEnvFrom"], FORMAT, "environment")
        if not isinstance(body.get("text"), str):
            raise UsageError(f"{asked['unpickleEnvFrom']} is no environment of this program.")
        return {"env": self._keep(body["text"])}

    def _pickle_state(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        _only(asked, "pickleTo", "proofState")
        number = asked["proofState"]
        self.desk.states.get(number)
        write(asked["pickleTo"], {"format": STATE_FORMAT, **self.desk.states.written(number)})
        return reply_of_state(number, portal.call(partial(self.desk.again, number)))

    def _unpickle_state(self, asked: Mapping[str, Json]) -> dict[str, Json]:
        # The environment is in the document already; to name another one would change nothing.
        _only(asked, "unpickleProofStateFrom", "env")
        if asked.get("env") is not None:
            self._text_of(asked["env"])
        body = document(asked["unpickleProofStateFrom"], STATE_FORMAT, "proof state")
        number = self.desk.states.read(body)
        return reply_of_state(number, portal.call(partial(self.desk.again, number)))


def _only(asked: Mapping[str, Json], *names: str) -> None:
    odd = sorted(name for name in asked if name not in names and asked[name] is not None)
    if odd:
        raise UsageError(f"Unknown key {odd[0]!r} beside {names[0]}; known are {', '.join(names)}.")


def _message(severity: str, text: str) -> dict[str, Json]:
    start = {"line": 1, "column": 0}
    return {"severity": severity, "pos": start, "endPos": start, "data": text}


def commands(source: BinaryIO) -> Iterator[bytes]:
    """The commands of a stream, each ended by an empty line; comments (# or --) are none.

    Lines of one command are joined without what ends them, as the REPL does: a text in JSON may be
    broken anywhere.
    """
    lines: list[bytes] = []
    for line in chain(source, [b""]):
        if line.strip():
            lines.append(line.rstrip())
            continue
        whole, lines = b"".join(lines), []
        if whole and not whole.startswith((b"#", b"--")):
            yield whole


def main() -> None:
    """Answer commands until standard input ends. Arguments are ignored: clients send Lake's."""
    values = load(more=SETTINGS)
    own = {"certainly_spare": False, "certainly_workers": 1, "certainly_one_caller": True}
    leans = Resident({**values, **own})
    policy = policy_of(defaults_of(values))
    session = Session(
        check=lambda request: portal.call(leans.check, request),
        desk=Desk(lambda: choose(values), policy),
    )
    try:
        for command in commands(sys.stdin.buffer):
            reply = answered(session, command)
            sys.stdout.write(json.dumps(reply, ensure_ascii=False) + "\n\n")
            sys.stdout.flush()
    finally:
        portal.call(session.desk.aclose)


def answered(session: Session, command: bytes) -> dict[str, Json]:
    """The reply to one command as it was read."""
    try:
        asked = json.loads(command)
    except (ValueError, RecursionError) as error:
        return {"message": f"Could not parse JSON: {error}"}
    return session.answer(asked)


if __name__ == "__main__":
    main()
