"""`scillm mini-agent`: work on a task with tools, serve the agent, walk a trace again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve
from scillm import portal
from scillm.cli import output
from scillm.cli.chat import messages, question_from
from scillm.http.choice import make_transport
from scillm.plugins.settings import load
from scillm.routing.router import Router

from scillm_codex.agent.loop import Task
from scillm_codex.agent.opening import TOOLS, ToolPlan
from scillm_codex.agent.records import SUCCESS, Answered, Call, Happening, Heard
from scillm_codex.agent.running import (
    asking,
    limits_from,
    model_from,
    report,
    run_agent,
    store_from,
)
from scillm_codex.agent.settings import AGENT_SETTINGS
from scillm_codex.mcp.names import McpTarget, read_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scillm.plugins.settings import Settings

    from scillm_codex.agent.outcome import Outcome

PORT = 8788
SHOWN_CHARS = 100


@click.group(name="mini-agent")
def command() -> None:
    """A model that works with tools until it has an answer."""


def _tool_options(function: Any) -> Any:
    options = [
        click.option("-m", "--model", metavar="MODEL", help="The model that works."),
        click.option("--api-base", metavar="URL", help="Base URL of an OpenAI-compatible server."),
        click.option(
            "--tool",
            "tools",
            multiple=True,
            type=click.Choice(TOOLS),
            help="A tool to give it; may be repeated. Nothing is given that is not named.",
        ),
        click.option(
            "--mcp",
            "servers",
            multiple=True,
            metavar="[NAME=]CMD|URL",
            help="An MCP server to start, or to connect to; may be repeated.",
        ),
        click.option(
            "--folder",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            metavar="DIR",
            help="The work folder, for files and commands.",
        ),
        click.option(
            "--allow",
            "commands",
            multiple=True,
            metavar="CMD",
            help="A command it may run, word for word; may be repeated.",
        ),
        click.option("--max-iterations", type=int, metavar="N", help="Questions to the model."),
        click.option("--max-seconds", type=float, metavar="S", help="Time of a run."),
        click.option("--max-tokens", type=int, metavar="N", help="Tokens of a whole run."),
        click.option("--max-cost-usd", type=float, metavar="USD", help="Money of a whole run."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@click.argument("task", required=False)
@_tool_options
@click.option("--system", metavar="TEXT", help="A system message in front of the task.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep a trace in this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole run as JSON.")
def run(
    task: str | None, system: str | None, store: Path | None, as_json: bool, **given: Any
) -> None:
    """Work on TASK (- or nothing: read from standard input) and print the answer.

    Exits with 1 when the agent stopped without an answer; standard error says why.
    """
    settings = load(more=AGENT_SETTINGS)
    work = Task(
        model=model_from(settings, given["model"]),
        messages=messages(question_from(task), system),
        limits=limits_from(settings, _limits(given)),
        store=store or store_from(settings),
    )
    plan = _plan(given)
    with output.busy("working") as status:
        watch = _watch(None if status is None else status.update)
        outcome = portal.call(partial(_run, work, plan, given["api_base"], watch))
    if as_json:
        output.document({"final_answer": outcome.final_answer, **report(outcome)})
    else:
        output.line(outcome.final_answer)
    if outcome.trace is not None:
        again = f"scillm mini-agent replay {shlex.quote(str(outcome.trace))}"
        output.note(f"the trace; walk it again with: {again}", word="Kept")
    if outcome.stopped_reason != SUCCESS:
        output.note(f"the agent stopped: {outcome.stopped_reason}", word="Stopped")
        raise click.exceptions.Exit(1)


async def _run(work: Task, plan: ToolPlan, api_base: str | None, watch: Any) -> Outcome:
    transport = make_transport(load())
    async with Router(transport=transport) as router:
        ask = asking(router, **({"api_base": api_base} if api_base else {}))
        return await run_agent(
            work,
            plan,
            ask,
            plugins=router.registry,
            transport=transport,
            watch=watch,
        )


@command.command()
@_tool_options
@click.option("--serve-model", "models", multiple=True, metavar="MODEL",
              help="A further model that clients may name.")  # fmt: skip
@click.option("--tool-base", "bases", multiple=True, metavar="URL",
              help="An HTTP tool service that /agent/run may name.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=PORT, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--width",
    default=8,
    type=click.IntRange(min=1),
    show_default=True,
    help="Runs at the same time.",
)
def serve(
    models: Sequence[str], bases: Sequence[str], host: str, port: int, width: int, **given: Any
) -> None:
    """Serve the agent behind OpenAI's chat API (model mini-agent) and /agent/run.

    Clients must show the key in MINI_AGENT_TOKEN when it is set; without it, only this machine is
    answered.
    """
    from scillm.serve.guard import refuse_open_host
    from scillm.serve.run import serve as run_server

    from scillm_codex.agent.server import AgentServer, agent_app

    settings = load(more=AGENT_SETTINGS)
    refuse_open_host(host, token=settings["mini_agent_token"], variable="MINI_AGENT_TOKEN")
    transport = make_transport(settings)
    router = Router(transport=transport, **_one_base(given))
    server = AgentServer(
        router=router,
        plugins=router.registry,
        transport=transport,
        settings=settings,
        plan=_plan(given),
        model=given["model"],
        models=models,
        http_bases=bases,
        token=settings["mini_agent_token"],
        limits=_limits(given),
        width=width,
    )
    run_server(
        agent_app(server),
        host=host,
        port=port,
        token=server.token,
        name="scillm mini-agent",
        say=output.line,
    )


@command.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every message as JSON.")
def replay(trace: Path, as_json: bool) -> None:
    """Walk the run of TRACE again, with no model and no tool, and check that it comes out the same.

    Exits with 1 when it was never finished.
    """
    from scillm_codex.agent.trace import replay as walk

    found = walk(trace)
    stop = found.agent.stopped
    if as_json:
        output.document(
            {
                "run_id": found.run_id,
                "model": found.model,
                "finished": found.finished,
                "stopped_reason": None if stop is None else stop.reason,
                "messages": [dict(message) for message in found.agent.messages],
            }
        )
    else:
        for message in found.agent.messages:
            output.line(_shown(message))
    if not found.finished:
        output.note("the run was never finished; this is how far it came", word="Stopped")
        raise click.exceptions.Exit(1)


def _shown(message: Mapping[str, Any]) -> str:
    said = message.get("content")
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    made = "".join(f"\n  calls {call['name']}({call['arguments']})" for call in calls)
    return f"{message['role']}: {text if said else ''}{made}"


def _plan(given: Mapping[str, Any]) -> ToolPlan:
    folder: Path | None = given["folder"]
    return ToolPlan(
        tools=given["tools"],
        folder=folder,
        commands=given["commands"],
        mcp=_apart([read_target(text) for text in given["servers"]]),
    )


def _apart(targets: Sequence[McpTarget]) -> list[McpTarget]:
    """Servers whose names were not given, and come out the same, get numbers."""
    seen: dict[str, int] = {}
    found = []
    for target in targets:
        seen[target.name] = seen.get(target.name, 0) + 1
        number = seen[target.name]
        found.append(target if number == 1 else evolve(target, name=f"{target.name}_{number}"))
    return found


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("max_iterations", "max_seconds", "max_tokens", "max_cost_usd")
    return {name: given[name] for name in names}


def _one_base(given: Mapping[str, Any]) -> dict[str, Any]:
    if given["api_base"] is None:
        return {}
    settings: Settings = load(more=AGENT_SETTINGS)
    model = model_from(settings, given["model"])
    row = {"model": model, "api_base": given["api_base"]}
    return {"model_list": [{"model_name": model, "litellm_params": row}]}


def _watch(update: Callable[[str], None] | None) -> Callable[[Happening, Call | None], None]:
    steps = 0

    def look(event: Happening, call: Call | None) -> None:
        nonlocal steps
        if isinstance(event, Heard):
            steps += 1
            made = [one["function"]["name"] for one in event.message.get("tool_calls") or ()]
            said = f"step {steps}: {', '.join(made) or 'answered'}"
        elif isinstance(event, Answered) and call is not None:
            said = f"step {steps}: {call.name} gave {' '.join(event.text.split())[:SHOWN_CHARS]}"
        else:
            said = f"step {steps}: out of time"
        if update is not None:
            update(said)

    return look
