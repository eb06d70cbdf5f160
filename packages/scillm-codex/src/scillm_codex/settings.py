"""The settings of Codex: where the sidecar is, and what it is made of."""

from __future__ import annotations

from scillm.records import Setting

API_BASE = Setting(
    name="codex_agent_api_base",
    env=("CODEX_AGENT_API_BASE",),
    doc="Base URL of the sidecar, without /v1: http://127.0.0.1:8077",
)
PROVIDER_SETTINGS: tuple[Setting, ...] = (
    API_BASE,
    Setting(
        name="codex_agent_api_key",
        env=("CODEX_AGENT_API_KEY",),
        doc="Key of the sidecar at CODEX_AGENT_API_BASE; sent nowhere else.",
        secret=True,
    ),
)
SIDECAR_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codex_bin",
        env=("SCILLM_CODEX_BIN",),
        kind="path",
        doc="The Codex binary; default: codex in PATH, then the one of openai-codex-cli-bin.",
    ),
    Setting(
        name="codex_home",
        env=("SCILLM_CODEX_HOME",),
        kind="path",
        default="~/.scillm/codex",
        doc="Folder of the sidecar's own CODEX_HOME; not below /tmp.",
    ),
    Setting(
        name="codex_auth",
        env=("SCILLM_CODEX_AUTH", "CODEX_AUTH_PATH"),
        kind="path",
        default="~/.codex/auth.json",
        doc="The auth.json the sidecar refers to.",
    ),
    Setting(
        name="codex_sidecar_key",
        env=("SCILLM_CODEX_SIDECAR_KEY",),
        doc="Key that clients of `scillm codex serve` must show.",
        secret=True,
    ),
    Setting(
        name="codex_upstream",
        env=("SCILLM_CODEX_UPSTREAM",),
        doc="A server with the Responses API for Codex to ask, in place of OpenAI's own.",
    ),
    Setting(
        name="codex_upstream_key",
        env=("SCILLM_CODEX_UPSTREAM_KEY",),
        doc="Key for SCILLM_CODEX_UPSTREAM.",
        secret=True,
    ),
    Setting(
        name="codex_model",
        env=("SCILLM_CODEX_MODEL",),
        doc="The model that `scillm codex doctor` asks and that the sidecar lists first.",
    ),
)
SETTINGS = (*PROVIDER_SETTINGS, *SIDECAR_SETTINGS)
