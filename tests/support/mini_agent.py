"""The mini-agent's server on a scripted model, on a real socket."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scillm import Router
from scillm.http.choice import make_transport
from scillm.plugins.settings import load
from scillm_codex.agent.opening import ToolPlan
from scillm_codex.agent.server import AgentServer, agent_app
from scillm_codex.agent.settings import AGENT_SETTINGS

from support.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.faulty import FaultyServer


@contextmanager
def mini_agent(
    upstream: FaultyServer,
    *,
    tools: Sequence[str] = (),
    others: Sequence[str] = (),
    bases: Sequence[str] = (),
    limits: dict[str, Any] | None = None,
) -> Iterator[str]:
    """Its base URL. The model is `scripted` at `upstream`; clients may also name `others`."""
    transport = make_transport(load())
    rows = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai_like/{name}", "api_base": upstream.base_url},
        }
        for name in ("scripted", *others)
    ]
    router = Router(rows, transport=transport, retry_enabled=False)
    server = AgentServer(
        router=router,
        plugins=router.registry,
        transport=transport,
        settings=load(more=AGENT_SETTINGS),
        plan=ToolPlan(tools=tools),
        model="scripted",
        models=others,
        http_bases=bases,
        limits=limits or {},
    )
    with served(agent_app(server)) as url:
        yield url
