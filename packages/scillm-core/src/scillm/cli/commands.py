"""The `scillm` command group: commands are entry points, listed from metadata, imported late."""

from __future__ import annotations

import io
import logging
import os
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from scillm.cli import output
from scillm.cli.entry import INTERRUPTED
from scillm.cli.installation import prints_to_stderr, registry
from scillm.errors import (
    PluginConflictError,
    PluginLoadError,
    PluginNotFoundError,
    ScillmError,
    UsageError,
)
from scillm.plugins.groups import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.plugins.registry import Offer, Registry

CORE = "scillm-core"

CORE_HELP = {
    "batch": "Run many requests from a file, each answered once.",
    "chat": "Ask a model one question.",
    "config": "Show every setting, its value and where it comes from.",
    "doctor": "Check this installation.",
    "plugins": "Show the installed plugins and whether they work.",
    "runs": "List, show and replay stored runs.",
}
"""Help of the core's own commands, known without importing them."""

SIBLING_HELP = {
    ("scillm-codex", "codex"): "Codex behind OpenAI's chat API, and any model behind Codex.",
    ("scillm-codex", "mini-agent"): "A model that works with tools until it has an answer.",
}
"""The same for a distribution with several commands, whose one summary cannot tell them apart."""

BROKEN_PIPE = 141
"""128 and SIGPIPE, as shells report it."""


class ReaderLeft(Exception):  # noqa: N818 - nothing went wrong
    """Whoever read stdout has closed it. Under this name, click does not take it for a failure."""


class Commands(click.Group):
    """The commands of all installed distributions. Imports one only when it is called."""

    def __init__(self, plugins: Registry) -> None:
        super().__init__(
            name="scillm",
            help="SciLLM: LLMs propose, deterministic checks dispose.",
            params=[
                click.Option(
                    ["--version"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_show_versions,
                    help="Show the versions of SciLLM's distributions and exit.",
                )
            ],
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self.plugins = plugins

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names from metadata."""
        return list(self.plugins.names(COMMANDS))

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """The command, imported now; None when there is none. Raises `PluginError` otherwise."""
        try:
            return self.loaded(cmd_name)
        except PluginNotFoundError:
            return None

    def loaded(self, name: str) -> click.Command:
        """The command, imported now. Raises `PluginError`; an unknown one gets near names."""
        with prints_to_stderr():
            loaded = self.plugins.get(COMMANDS, name)
        if not isinstance(loaded, click.Command):
            offer = self.plugins.offers(COMMANDS)[name]
            raise PluginLoadError(
                f"The command {name!r} of {offer.distribution} must be a click.Command, but "
                f"{offer.target} is {type(loaded).__name__}. Update {offer.distribution}."
            )
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; an unknown one is answered with near names."""
        name = args[0]
        try:
            return name, self.loaded(name), args[1:]
        except PluginNotFoundError as error:
            if ctx.resilient_parsing:
                return None, None, args[1:]
            raise click.UsageError(error.message, ctx) from error

    def invoke(self, ctx: click.Context) -> None:
        """Run the command; the result is its exit, not what it returns."""
        try:
            super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the core's commands, then those of other distributions."""
        offers = self.plugins.offers(COMMANDS).values()
        for title, wanted in (("Commands", True), ("Commands of plugins", False)):
            rows = [
                (offer.name, help_line(offer))
                for offer in offers
                if (offer.distribution == CORE) is wanted
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names that begin with `incomplete`, from metadata."""
        # click would import every command for its help.
        offers = self.plugins.offers(COMMANDS)
        return [
            CompletionItem(name, help=help_line(offer))
            for name, offer in offers.items()
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)


def help_line(offer: Offer) -> str:
    """What a command does, as far as metadata tells."""
    if offer.distribution == CORE and offer.name in CORE_HELP:
        return CORE_HELP[offer.name]
    said = SIBLING_HELP.get((offer.distribution, offer.name), offer.summary)
    return f"{said} ({offer.distribution})".strip()


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit code is 0 success, 1 the work failed, 2 wrong usage."""
    _prepare_streams()
    try:
        done = Commands(registry()).main(list(args), prog_name="scillm", standalone_mode=False)
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        # click turns Ctrl-C into Abort; a question answered with no is one too.
        return INTERRUPTED if isinstance(error.__context__, KeyboardInterrupt) else 1
    except ScillmError as error:
        output.error(error.message)
        return exit_code(error)
    except (ReaderLeft, BrokenPipeError):
        # The reader has left. The interpreter flushes stdout once more at exit; let it find a sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        output.error(f"{type(error).__name__}: {error}")
        return 1


def exit_code(error: ScillmError) -> int:
    """2 when the call was wrong; 1 when the work, or something installed, failed."""
    if isinstance(error, (PluginLoadError, PluginConflictError)):
        return 1
    return 2 if isinstance(error, UsageError) else 1


def versions() -> list[tuple[str, str]]:
    """SciLLM's installed distributions and their versions, the core first."""
    found = {
        dist.metadata["Name"]: dist.version
        for dist in metadata.distributions()
        if (dist.metadata["Name"] or "").startswith("scillm-")
    }
    return [(CORE, found.pop(CORE, "(not installed)")), *sorted(found.items())]


def _show_versions(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        for name, version in versions():
            output.line(f"{name} {version}")
        output.line(f"{platform.python_implementation()} {platform.python_version()}")
        ctx.exit()


class _OneLine(logging.Handler):
    """Shows the core's warnings as one line, without the traceback a program's log would keep."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        cause = f": {type(error).__name__}: {error}" if error else ""
        output.note(record.getMessage() + cause, word="Warning")


def _prepare_streams() -> None:
    log = logging.getLogger("scillm")
    if not any(isinstance(handler, _OneLine) for handler in log.handlers):
        log.addHandler(_OneLine(logging.WARNING))
    for stream in (sys.stdout, sys.stderr):
        # A character the terminal's encoding lacks is shown escaped; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
