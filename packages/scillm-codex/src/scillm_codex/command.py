"""`scillm codex`: serve the sidecar, serve the Responses bridge, examine what works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from scillm import portal
from scillm.cli import output
from scillm.cli.doctor import described, show
from scillm.plugins.settings import load

from scillm_codex.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scillm.plugins.settings import Settings

    from scillm_codex.sidecar.app import Sidecar

BRIDGE_PORT = 8078
SIDECAR_PORT = 8077
KEY_VARIABLE = "SCILLM_CODEX_SIDECAR_KEY"


@click.group(name="codex")
def command() -> None:
    """Codex behind OpenAI's chat API, and any model behind Codex."""


def _sidecar_options(function: Any) -> Any:
    options = [
        click.option("--profile", type=click.Choice(["chat", "agent"]), default="chat",
                     show_default=True, help="chat: no tools of Codex's own. agent: its commands."),
        click.option("-m", "--model", metavar="ID", help="The model Codex takes by default."),
        click.option("--upstream", metavar="URL", help="A server with the Responses API."),
        click.option("--codex-home", type=click.Path(path_type=Path), metavar="DIR",
                     help="Folder of the sidecar's own CODEX_HOME."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=SIDECAR_PORT, show_default=True, help="Port; 0 takes a free one.")
@_sidecar_options
@click.option("--cwd", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Where the agent profile works.")  # fmt: skip
@click.option("--allow-cwd", "allowed", multiple=True, type=click.Path(path_type=Path),
              metavar="DIR", help="A folder below which a request may choose its own.")  # fmt: skip
@click.option("--sandbox", type=click.Choice(["read-only", "workspace-write"]),
              default="read-only", show_default=True, help="What the agent may do.")  # fmt: skip
@click.option("--exec", "use_exec", is_flag=True, help="A `codex exec` process per request.")
@click.option("--echo", is_flag=True, help="Answer with echoes, without Codex.")
@click.option("--force-echo", is_flag=True, help="Echo although there is a login.")
@click.option(
    "--turn-s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Longest time for an answer; 0 is none.",
)
@click.option(
    "--width",
    default=32,
    type=click.IntRange(min=1),
    show_default=True,
    help="Answers at the same time.",
)
def serve(host: str, port: int, **given: Any) -> None:
    """Serve Codex behind OpenAI's chat API.

    Clients must show the key in SCILLM_CODEX_SIDECAR_KEY when it is set; without it, only this
    machine is answered.
    """
    from scillm.serve.guard import refuse_open_host
    from scillm.serve.run import serve as run_server

    from scillm_codex.sidecar.app import sidecar_app

    values = load(more=SETTINGS)
    refuse_open_host(host, token=values["codex_sidecar_key"], variable=KEY_VARIABLE)
    sidecar = _sidecar(values, given)
    _warn(sidecar)
    run_server(
        sidecar_app(sidecar),
        host=host,
        port=port,
        token=sidecar.token,
        name="scillm codex",
        say=output.line,
    )


@command.command()
@_sidecar_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--no-ask", is_flag=True, help="Send no question to the model.")
def doctor(as_json: bool, no_ask: bool, **given: Any) -> None:
    """Try everything Codex needs here, one after the other.

    Sends two short questions to the model, unless --no-ask. What was not run is shown as such.
    Exits with 1 when a check failed.
    """
    from scillm_codex.doctor.checks import examine
    from scillm_codex.sidecar.app import Sidecar

    values = load(more=SETTINGS)
    sidecar = Sidecar(**_common(values, given))
    with output.busy("trying"):
        checks = portal.call(_examined, sidecar, values["codex_bin"], not no_ask, examine)
    if as_json:
        output.document(described(checks))
    else:
        show(checks)
    if any(check.ok is False for check in checks):
        raise click.exceptions.Exit(1)


async def _examined(sidecar: Sidecar, setting: Path | None, ask: bool, examine: Any) -> Any:
    return await examine(sidecar, setting=setting, ask=ask)


@command.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="A model of SciLLM's, e.g. openai/gpt-4o-mini; several are several ids.",
)
@click.option("--api-base", metavar="URL", help="Base URL of the service behind the models.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds its key.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=BRIDGE_PORT, show_default=True, help="Port; 0 takes a free one.")
def bridge(
    models: Sequence[str],
    api_base: str | None,
    api_key_env: str | None,
    host: str,
    port: int,
) -> None:
    """Serve OpenAI's Responses API in front of chat models, so that Codex can run on them.

    Clients must show the key in SCILLM_CODEX_SIDECAR_KEY when it is set; without it, only this
    machine is answered.
    """
    from scillm.cli.chat import key_from
    from scillm.serve.guard import refuse_open_host
    from scillm.serve.run import serve as run_server

    from scillm_codex.responses.app import bridge_of_models, codex_config

    def say(line: str) -> None:
        output.line(line)
        output.note(codex_config(line.rsplit(" ", 1)[-1], models[0]), word="config.toml")

    token = load(more=SETTINGS)["codex_sidecar_key"]
    refuse_open_host(host, token=token, variable=KEY_VARIABLE)
    key = key_from(api_key_env) if api_key_env else None
    app = bridge_of_models(models, api_base=api_base, api_key=key, token=token)
    run_server(app, host=host, port=port, token=token, name="scillm codex bridge", say=say)


def _sidecar(values: Settings, given: Mapping[str, Any]) -> Sidecar:
    from scillm_codex.sidecar.app import Sidecar
    from scillm_codex.sidecar.binary import find_binary, with_version
    from scillm_codex.sidecar.echo import refuse_beside_login

    common = _common(values, given)
    if given["echo"] or given["force_echo"]:
        refuse_beside_login(common["auth"], forced=given["force_echo"])
        return Sidecar(**common, echo=True)
    return Sidecar(
        **common,
        binary=with_version(find_binary(values["codex_bin"])),
        cwd=given["cwd"],
        allowed=tuple(given["allowed"]),
        sandbox=given["sandbox"],
        turn_s=given["turn_s"],
        width=given["width"],
        use_exec=given["use_exec"],
    )


def _common(values: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    from scillm_codex.sidecar.home import Upstream

    base = given["upstream"] or values["codex_upstream"]
    # The key of the settings goes to the upstream of the settings; to another only where there is
    # none, so that it can belong to nothing else.
    ours = values["codex_upstream"] in (None, base)
    key = values["codex_upstream_key"] if ours else None
    return {
        "root": given["codex_home"] or values["codex_home"],
        "profile": given["profile"],
        "auth": None if base else values["codex_auth"],
        "upstream": None if base is None else Upstream(base_url=base, api_key=key),
        "model": given["model"] or values["codex_model"],
        "token": values["codex_sidecar_key"],
    }


def _warn(sidecar: Sidecar) -> None:
    from scillm_codex.sidecar.binary import untested

    if sidecar.binary is not None and not sidecar.binary.tested:
        output.note(untested(sidecar.binary), word="Warning")
