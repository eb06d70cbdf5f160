"""The settings of the mini-agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.records import Setting

if TYPE_CHECKING:
    from scillm.records import Json

AGENT_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="mini_agent_model",
        env=("MINI_AGENT_MODEL", "LITELLM_DEFAULT_CODE_MODEL"),
        doc="The model that works behind the mini-agent; default: SCILLM_DEFAULT_MODEL.",
    ),
    Setting(
        name="mini_agent_max_iterations",
        env=("MINI_AGENT_MAX_ITERATIONS", "LITELLM_MINI_AGENT_MAX_ITERATIONS"),
        kind="int",
        default=6,
        doc="Questions to the model in one run.",
    ),
    Setting(
        name="mini_agent_max_seconds",
        env=("MINI_AGENT_MAX_SECONDS", "LITELLM_MINI_AGENT_MAX_SECONDS"),
        kind="float",
        default=180.0,
        doc="Seconds one run may take.",
    ),
    Setting(
        name="mini_agent_languages",
        env=("MINI_AGENT_LANGUAGES", "LITELLM_MINI_AGENT_LANGUAGES"),
        kind="names",
        default=("python", "javascript", "rust", "go"),
        doc="Languages the mini-agent may run programs in, where their toolchain is installed.",
    ),
    Setting(
        name="mini_agent_store_traces",
        env=("MINI_AGENT_STORE_TRACES",),
        kind="bool",
        default=False,
        doc="Keep a trace of every run.",
    ),
    Setting(
        name="mini_agent_store_path",
        env=("MINI_AGENT_STORE_PATH",),
        kind="path",
        default="~/.local/share/scillm/mini-agent",
        doc="Folder of the traces, one journal per run.",
    ),
    Setting(
        name="mini_agent_token",
        env=("MINI_AGENT_TOKEN",),
        doc="Key that clients of `scillm mini-agent serve` must show.",
        secret=True,
    ),
    Setting(
        name="mini_agent_tool_http_headers",
        env=("MINI_AGENT_TOOL_HTTP_HEADERS",),
        doc="Headers for the HTTP tool service, as one JSON object.",
        secret=True,
    ),
)


def with_defaults(settings: Mapping[str, Json]) -> dict[str, Json]:
    """`settings` with our defaults where a host that embeds us left them out."""
    return {**{row.name: row.default for row in AGENT_SETTINGS}, **settings}
