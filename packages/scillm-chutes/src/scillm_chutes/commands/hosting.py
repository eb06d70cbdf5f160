"""`scillm chutes fake`, `deploy`, `ready`: serving a fake, and chutes of one's own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from scillm.cli import output
from scillm.errors import MalformedReplyError

from scillm_chutes.commands.session import AS_JSON, told, with_transport
from scillm_chutes.deploy import deploy_commands, run
from scillm_chutes.market import fetch_json
from scillm_chutes.settings import accounts_from, loaded, site_from

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from scillm.protocols import Transport


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--quiet", is_flag=True, help="Do not print requests.")
def fake(*, port: int, quiet: bool) -> None:
    """Serve a fake Chutes on loopback until Ctrl-C; its first lines are a ready `.env`."""
    from scillm_chutes.fake import FakeChutes, Seen

    def show(seen: Seen) -> None:
        wrong = f"  !! {', '.join(seen.wrong)}" if seen.wrong else ""
        output.line(f"{seen.method} {seen.host} {seen.path}{wrong}")

    try:
        server = FakeChutes(port=port, on_request=None if quiet else show)
    except OSError as error:
        raise click.ClickException(f"Port {port} cannot be served: {error}") from error
    with server:
        try:
            output.line(f"CHUTES_API_BASE={server.api_base}")
            output.line(f"CHUTES_API_KEY={server.key}")
            output.note("this key is the fake's own; Ctrl-C ends it", word="Serving")
            threading.Event().wait()
        except KeyboardInterrupt:
            output.note(f"{len(server.seen)} requests", word="Ended")


@click.command()
@click.argument("target")
@click.option("--build/--no-build", default=True, help="Build the image first.")
@click.option("--accept-fee", is_flag=True, help="Accept the fee that Chutes charges.")
def deploy(*, target: str, build: bool, accept_fee: bool) -> None:
    """Build and deploy TARGET (module:chute) with the `chutes` program."""
    with told():
        code = run(deploy_commands(target, build=build, accept_fee=accept_fee))
    if code:
        raise click.exceptions.Exit(code)


def presence(row: Any, chute: str) -> tuple[int, bool]:
    """Active instances in a row of `/chutes/`, and whether it is hot."""
    if not isinstance(row, Mapping):
        raise MalformedReplyError(
            f"The row of {chute} should be an object, but is a JSON {type(row).__name__}.",
            provider="chutes",
        )
    instances = row.get("instances") or ()
    active = sum(1 for one in instances if isinstance(one, Mapping) and one.get("active"))
    return active, bool(row.get("hot", active > 0))


@click.command()
@click.argument("chute")
@AS_JSON
def ready(*, chute: str, as_json: bool) -> None:
    """Say whether CHUTE (a name or id) has a running instance; wakes and bills nothing."""
    with told():
        settings = loaded()
        account = accounts_from(settings)[0]
        site = site_from(settings, account.api_base)

        async def work(transport: Transport) -> Any:
            url = site.at_management("/chutes/{}", chute)
            return await fetch_json(transport, url, key=account.api_key)

        row = with_transport(settings, work)
        active, hot = presence(row, chute)
    if as_json:
        output.document({"chute": chute, "hot": hot, "active_instances": active})
    else:
        output.line(
            f"{row.get('name', chute)}: {'hot' if hot else 'cold'}, {active} active instances"
        )
    if not hot:
        raise click.exceptions.Exit(1)


COMMANDS: Sequence[click.Command] = (fake, deploy, ready)
