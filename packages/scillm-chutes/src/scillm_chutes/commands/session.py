"""One run of a command: errors as exits, a transport, the market of the environment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click
from scillm import portal
from scillm.errors import (
    AmbiguousModelError,
    ScillmError,
    SettingsError,
    UnknownModelError,
    UsageError,
)
from scillm.http.choice import make_transport
from scillm.protocols import Closes

from scillm_chutes.desk import shared_desk
from scillm_chutes.routers import base_for, look, market_of
from scillm_chutes.settings import first_base

if TYPE_CHECKING:
    from scillm.plugins.settings import Settings
    from scillm.protocols import Transport

    from scillm_chutes.market import Market

Result = TypeVar("Result")

KIND = click.option(
    "--kind",
    type=click.Choice(["text", "vlm", "tools", "embedding"]),
    default="text",
    show_default=True,
    help="What the model must do.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class WrongSettings(click.ClickException):
    """The command was called rightly: its usage would only hide the one sentence that helps."""

    exit_code = 2


@contextmanager
def told() -> Iterator[None]:
    """Our errors as click's: wrong use or settings exit with 2, everything else with 1."""
    try:
        yield
    except (AmbiguousModelError, UnknownModelError) as error:
        raise click.ClickException(error.message) from error
    except SettingsError as error:
        raise WrongSettings(error.message) from error
    except UsageError as error:
        raise click.UsageError(error.message) from error
    except ScillmError as error:
        raise click.ClickException(error.message) from error


def market(settings: Settings, kind: str = "text") -> Market:
    """The market of the environment, looked at now; `UnknownModelError` without any catalog."""
    found = market_of(shared_desk(), settings, base_for(kind, first_base(settings)))
    portal.call(look, [found], settings)
    if found.known() is None:
        raise UnknownModelError(
            f"The models of {found.site.api_base} cannot be listed: "
            f"{found.problems.get('catalog', 'no reason given')}"
        )
    return found


def with_transport(settings: Settings, work: Callable[[Transport], Awaitable[Result]]) -> Result:
    """Run `work` with a transport that is closed afterwards."""

    async def run() -> Result:
        transport = make_transport(settings)
        try:
            return await work(transport)
        finally:
            if isinstance(transport, Closes):
                await transport.aclose()

    return portal.call(partial(run))
