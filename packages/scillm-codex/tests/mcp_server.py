"""A real MCP server for tests, made with the official SDK: `mcp_server.py [PORT]`.

Without a port it speaks over standard input and output. Run by path in a process of its own.
"""

import os
import sys
from pathlib import Path

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def count(folder: str) -> str:
    """Leave one more line in a file: shows how often it was called."""
    with (Path(folder) / "calls").open("a") as file:
        file.write("called\n")
    return "counted"


@server.tool()
async def slow(seconds: float) -> str:
    """Take a while, silently."""
    await anyio.sleep(seconds)
    return "slept"


@server.tool()
async def ticking(ticks: int, ctx: Context) -> str:
    """Take a while, and say so."""
    for tick in range(ticks):
        await anyio.sleep(0.3)
        await ctx.report_progress(tick, ticks)
    return "ticked"


@server.tool()
def long_text(chars: int) -> str:
    """Give a long text."""
    return "x" * chars


@server.tool()
def boom() -> str:
    """Fail."""
    raise RuntimeError("with a secret inside")


@server.tool()
def environment() -> list[str]:
    """Name every variable there is."""
    return sorted(os.environ)


@server.tool()
def die() -> str:
    """End the server at once."""
    os._exit(3)


@server.tool(name="odd name/with.dots and a very long tail that no function name could ever have")
def odd() -> str:
    """Have an odd name."""
    return "odd"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run(transport="streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
