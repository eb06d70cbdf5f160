"""Opens the tools a run was given, lends them for one piece of work, and closes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import evolve, field, frozen
from scillm.errors import UsageError
from scillm.plugins.groups import EXTRAS

from scillm_codex.agent.toolbox import MOST_CHARS, Offer, Toolbox, offers_of
from scillm_codex.agent.tools.code import CodeTools
from scillm_codex.agent.tools.commands import CommandTool, read_allowed
from scillm_codex.agent.tools.files import FileTools
from scillm_codex.agent.tools.folder import WorkFolder
from scillm_codex.agent.tools.lent import NAME as LENT
from scillm_codex.agent.tools.lent import LentRunner
from scillm_codex.agent.tools.plain import PlainRunner
from scillm_codex.agent.tools.remote import HttpTools
from scillm_codex.mcp.client import McpServer
from scillm_codex.mcp.names import McpTarget, offered_names

if TYPE_CHECKING:
    from scillm.protocols import Plugins, Transport

    from scillm_codex.agent.tools.runners import Runner

Result = TypeVar("Result")
LANGUAGES = ("python", "javascript", "rust", "go")
FILES, FILES_READ = "files", "files-read"
TOOLS = (*LANGUAGES, FILES, FILES_READ)
"""What may be asked for by name."""


@frozen(kw_only=True)
class ToolPlan:
    """Which tools a run gets. Nothing is given that is not named here."""

    tools: Sequence[str] = ()
    """Of `TOOLS`; a language whose toolchain is not here is left out."""
    folder: Path | None = None
    """The work folder, for files and commands."""
    commands: Sequence[str] = ()
    """Command lines that may be run, word for word."""
    mcp: Sequence[McpTarget] = ()
    http_base: str | None = None
    http_headers: Mapping[str, str] = field(factory=dict, repr=False)
    timeout_s: float = 30.0
    """Of one call."""
    most_chars: int = MOST_CHARS
    """Of one answer."""

    def __attrs_post_init__(self) -> None:
        unknown = [name for name in self.tools if name not in TOOLS]
        if unknown:
            raise UsageError(
                f"There is no tool {unknown[0]!r}; there are {', '.join(TOOLS)}, and what MCP "
                "servers bring."
            )
        if (self.commands or {FILES, FILES_READ} & set(self.tools)) and self.folder is None:
            raise UsageError("Files and commands need a work folder; name one.")
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(f"The work folder {str(self.folder)!r} is no folder.")


async def with_tools(
    plan: ToolPlan,
    work: Callable[[Toolbox], Awaitable[Result]],
    *,
    plugins: Plugins,
    transport: Transport,
) -> Result:
    """What `work` gives with the tools of `plan`, which are open while it runs.

    Raises `EngineError` when an MCP server or the sandbox cannot be opened.
    """
    results: list[Result] = []
    failures: list[Exception] = []
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        try:
            offers = await _own(plan, plugins, stack)
            if plan.http_base is not None:
                remote = HttpTools(
                    plan.http_base,
                    transport,
                    headers=plan.http_headers,
                    timeout_s=plan.timeout_s,
                )
                offers += offers_of(await remote.open())
            for target in plan.mcp:
                server = McpServer(target)
                await group.start(server.serve)
                offers += _of_server(server)
            results.append(await work(Toolbox(offers, most_chars=plan.most_chars)))
        except Exception as error:  # noqa: BLE001  (raised below, bare instead of in a group)
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return results[0]


async def _own(plan: ToolPlan, plugins: Plugins, stack: AsyncExitStack) -> list[Offer]:
    offers: list[Offer] = []
    languages = [name for name in plan.tools if name in LANGUAGES]
    if languages:
        runner = await open_runner(plugins, stack)
        offers += offers_of(CodeTools(runner, languages=languages, timeout_s=plan.timeout_s))
    if plan.folder is None:
        return offers
    folder = plan.folder.resolve()
    if FILES in plan.tools or FILES_READ in plan.tools:
        read_only = FILES not in plan.tools
        offers += offers_of(FileTools(WorkFolder(folder), read_only=read_only))
    if plan.commands:
        allowed = read_allowed(plan.commands)
        offers += offers_of(CommandTool(allowed, folder=folder, timeout_s=plan.timeout_s))
    return offers


async def open_runner(plugins: Plugins, stack: AsyncExitStack) -> Runner:
    """CodeWorld's sandbox when it is installed, else a plain restricted process.

    `SandboxError` when programs could not be kept from this machine's files.
    """
    if LENT in plugins.names(EXTRAS):
        return await LentRunner().open(plugins, stack)
    return await PlainRunner().open()


def _of_server(server: McpServer) -> list[Offer]:
    names = offered_names(server.target.name, [spec.name for spec in server.tools])
    return [
        Offer(spec=evolve(spec, name=offered), source=server, own_name=spec.name)
        for spec, offered in zip(server.tools, names, strict=True)
    ]
