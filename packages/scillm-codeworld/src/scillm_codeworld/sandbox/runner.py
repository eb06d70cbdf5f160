"""The child's side of the conversation: confine, load the code, answer one input. Run by path.

It reads JSON lines from what was its stdin (setup, program, input) and answers each with one JSON
line on its own pipe, so that nothing a program prints can be taken for an answer. It is never told
what answer is expected.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

REASON_CHARS = 500
FRAMES = 8
FUNCTION_CHARS = 100
NAME = "variant"
OUT_OF_MEMORY = b'{"status": "memory", "reason": "the program used up its memory"}\n'


def send(pipe: int, line: bytes) -> None:
    """Write all of `line`."""
    view = memoryview(line)
    while view:
        view = view[os.write(pipe, view) :]


def say(pipe: int, **words: Any) -> None:
    """Send `words` as one line."""
    send(pipe, json.dumps(words).encode() + b"\n")


def told(error: BaseException) -> str:
    """Type, message and the last place in the program's own code, of an error it raised."""
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  (the program's own class may raise anything here)
        message = "(its message cannot be shown)"
    where, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == NAME:
            where = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text[:REASON_CHARS] + where


def frames(error: BaseException) -> list[dict[str, Any]]:
    """Where `error` passed through the program's own code, outermost first; the inner ones kept."""
    found: list[dict[str, Any]] = []
    left_out, trace = 0, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == NAME:
            found.append({"line": trace.tb_lineno, "function": code.co_name[:FUNCTION_CHARS]})
        if len(found) > FRAMES:
            del found[0]
            left_out += 1
        trace = trace.tb_next
    return [{"left_out": left_out}, *found] if left_out else found


def prepared(code: str, entry: str) -> tuple[Any, dict[str, Any]]:
    """The function `entry` of the program, or None, and what to say of it."""
    try:
        compiled = compile(code, NAME, "exec")
    except SyntaxError as error:
        where = "" if error.lineno is None else f" (line {error.lineno})"
        return None, {"status": "syntax_error", "reason": f"{error.msg}{where}"}
    except (ValueError, RecursionError, OverflowError) as error:
        return None, {"status": "syntax_error", "reason": told(error)}
    module = ModuleType(NAME)
    sys.modules[NAME] = module  # dataclasses and pickle look their module up there
    exec(compiled, module.__dict__)  # noqa: S102  (running it is the purpose)
    function = module.__dict__.get(entry)
    if callable(function):
        return function, {"status": "loaded"}
    have = sorted(key for key, value in module.__dict__.items() if isinstance(value, type(told)))
    reason = f"the code defines no function {entry!r}; it defines {', '.join(have) or 'none'}"
    return None, {"status": "no_entry_point", "reason": reason}


def written(value: Any) -> bytes:
    """`value` as JSON; ValueError, TypeError or RecursionError when it is not plain JSON."""
    text = json.dumps(value, allow_nan=False)
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            odd = [key for key in found if not isinstance(key, str)]
            if odd:  # json would turn 1 into "1", which is another answer
                raise TypeError(f"the answer has the key {odd[0]!r}, which is not a string")
            waiting += found.values()
        elif isinstance(found, (list, tuple)):
            waiting += found
    return text.encode()


def answer(pipe: int, function: Any, value: Any) -> None:
    """Call the program and say what came out."""
    result = function(value)
    try:
        line = written(result)
    except (TypeError, ValueError, RecursionError) as error:
        say(pipe, status="unserialisable", reason=told(error))
        return
    send(pipe, b'{"status": "ok", "output": ' + line + b"}\n")


def converse(lines: Any, pipe: int, settle: Any, refusals: tuple[type[Exception], ...]) -> None:
    """The whole conversation. `settle` puts the limits on and says which, or raises a refusal."""
    try:
        say(pipe, status="ready", isolation=settle(json.loads(lines.readline())))
    except refusals as error:
        say(pipe, status="sandbox_refused", reason=told(error))
        return
    program = json.loads(lines.readline())
    try:
        function, words = prepared(program["code"], program["entry"])
        say(pipe, **words)
        if function is None:
            return
        answer(pipe, function, json.loads(lines.readline()))
    except MemoryError:
        send(pipe, OUT_OF_MEMORY)
    except BaseException as error:  # noqa: BLE001  (whatever a program raises is its result)
        say(pipe, status="exception", reason=told(error), frames=frames(error))


def confinement() -> Any:
    """The module `confine`, which lies beside this one, and which a program must not find."""
    # The folder is on the path only for this import.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    confine = __import__("confine")
    del sys.path[0], sys.modules["confine"]
    return confine


def main() -> None:
    """Take the pipes over, converse, and leave without running the program's exit handlers."""
    pipe = int(sys.argv[1])
    lines = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if sys.version_info < (3, 11):  # -P keeps the script's folder off the path from 3.11 on
        del sys.path[0]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        confine = confinement()
        converse(
            lines,
            pipe,
            lambda setup: confine.confine(**setup),
            (OSError, ValueError, confine.Refused),
        )
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
