"""Names under which a model sees tools, and servers as people write them."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import field, frozen
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

MOST_CHARS = 64
"""What OpenAI's API, and those who follow it, allow in a function's name."""
MARK_CHARS = 8
ODD = re.compile(r"[^a-zA-Z0-9_-]+")
NAMED = re.compile(r"([A-Za-z0-9_-]{1,32})=(.+)", re.DOTALL)
INTERPRETERS = re.compile(r"(python[0-9.]*|node|npx|uvx|uv|deno|bun|env)(\.exe)?")


@frozen(kw_only=True)
class McpTarget:
    """One MCP server: a command to start, or the URL of one that runs."""

    name: str
    command: Sequence[str] = ()
    url: str = ""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Sent with every request to `url`."""
    env: Mapping[str, str] = field(factory=dict, repr=False)
    """What the command sees beside PATH, HOME and the like; never our whole environment."""
    mode: str = "auto"
    """`auto` finds the protocol's era out, `legacy` begins with initialize, or a version."""
    connect_s: float = 30.0
    """Longest wait for it to be ready; a first `npx` or `uvx` may have to install it."""
    timeout_s: float = 60.0
    """Longest silence of one call: a progress notice begins it anew."""

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON without headers and environment, which may be secret."""
        return {"name": self.name, "command": list(self.command), "url": self.url}


def read_target(text: str) -> McpTarget:
    """`[NAME=]COMMAND ARGUMENTS…` or `[NAME=]http://…` as a server; `UsageError` otherwise."""
    named = NAMED.fullmatch(text.strip())
    name, rest = (named.group(1), named.group(2)) if named else ("", text.strip())
    if rest.startswith(("http://", "https://")):
        host = urlsplit(rest).hostname
        if not host:
            raise UsageError(f"The MCP server {text!r} has no host; wanted: http://HOST:PORT/mcp.")
        return McpTarget(name=name or clean(host), url=rest)
    try:
        command = shlex.split(rest)
    except ValueError as error:
        raise UsageError(f"The MCP server {text!r} is no command line: {error}.") from error
    if not command:
        raise UsageError("An MCP server is a command or a URL, but nothing came.")
    return McpTarget(name=name or _name_of(command), command=command)


def _name_of(command: Sequence[str]) -> str:
    """The first word that says something: not the interpreter, not an option."""
    for word in command:
        stem = PurePath(word).name
        if word.startswith("-") or INTERPRETERS.fullmatch(stem):
            continue
        return clean(PurePath(stem).stem)[:32]
    return clean(PurePath(command[0]).stem)


def clean(name: str) -> str:
    """`name` with every character that function names may not have as `_`."""
    return ODD.sub("_", name).strip("_") or "mcp"


def offered_name(server: str, tool: str) -> str:
    """The name of a server's tool for the model; a long one is cut and marked with its hash."""
    name = f"{clean(server)}__{ODD.sub('_', tool)}"
    if len(name) <= MOST_CHARS:
        return name
    mark = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:MARK_CHARS]
    return f"{name[: MOST_CHARS - MARK_CHARS - 1]}_{mark}"


def offered_names(server: str, tools: Iterable[str]) -> dict[str, str]:
    """Offered name → the server's own; `UsageError` when two come out the same."""
    names: dict[str, str] = {}
    for tool in tools:
        offered = offered_name(server, tool)
        if offered in names:
            raise UsageError(
                f"The tools {names[offered]!r} and {tool!r} of the MCP server {server!r} would "
                f"both be called {offered!r}; the server must name them apart."
            )
        names[offered] = tool
    return names
