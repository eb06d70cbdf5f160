"""An MCP server that does not keep to the protocol: `mcp_liar.py MODE MARK`. Run by path."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

MODE = sys.argv[1]
SCHEMA = {"type": "object", "properties": {}}
TOOLS = [{"name": "work", "inputSchema": SCHEMA}]
if MODE == "tools":
    TOOLS = [{"name": f"t{number}", "inputSchema": SCHEMA} for number in range(5000)]


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def answer(asked: dict[str, Any], result: dict[str, Any]) -> None:
    say({"jsonrpc": "2.0", "id": asked["id"], "result": result})


def notices(_asked: dict[str, Any]) -> None:
    note = {"progressToken": 0, "progress": 1, "message": "x" * 500}
    while True:
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": note})


def endless_line(_asked: dict[str, Any]) -> None:
    while True:
        sys.stdout.write("x" * 65_536)


def no_json(_asked: dict[str, Any]) -> None:
    sys.stdout.write("this is no JSON\n" * 10_000)
    sys.stdout.flush()


def twice(asked: dict[str, Any]) -> None:
    for text in ("first", "second"):
        answer(asked, {"content": [{"type": "text", "text": text}]})


def long(asked: dict[str, Any]) -> None:
    answer(asked, {"content": [{"type": "text", "text": "x" * 20_000_000}]})


CALLED: dict[str, Callable[[dict[str, Any]], None]] = {
    "wrong-id": lambda _: say({"jsonrpc": "2.0", "id": 987654, "result": {"content": []}}),
    "no-object": lambda asked: answer(asked, {"content": "certainly"}),
    "no-json": no_json,
    "notices": notices,
    "endless-line": endless_line,
    "long": long,
    "twice": twice,
    "exit": lambda _: sys.exit(3),
    "silent": lambda _: None,
}
"""What each mode does with a call."""


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODE == "deaf":
        subprocess.Popen(["sleep", "300"], start_new_session=True)
        time.sleep(300)
    for line in sys.stdin:
        asked = json.loads(line)
        method = asked.get("method")
        if method == "initialize":
            answer(asked, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "liar", "version": "1"}})  # fmt: skip
        elif method == "tools/list":
            answer(asked, {"tools": TOOLS})
        elif method == "tools/call":
            CALLED[MODE](asked)
        elif "id" in asked:
            error = {"code": -32601, "message": "not known"}
            say({"jsonrpc": "2.0", "id": asked["id"], "error": error})
    # The end of its input is not its end.
    time.sleep(300)


main()
