"""CodeWorld's settings, and the options they stand in for where a caller gives none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.plugins.settings import load
from scillm.records import Setting

from scillm_codeworld.generate.wish import AUTOGENERATE, merged_wish, names_model
from scillm_codeworld.options import Options, parse_options

if TYPE_CHECKING:
    from scillm.records import Json

PREFIX = "codeworld_"
AUTO_PREFIX = "codeworld_auto_"
AUTO_API_BASE = "codeworld_auto_api_base"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codeworld_timeout_s",
        env=("SCILLM_CODEWORLD_TIMEOUT_S",),
        kind="float",
        default=5.0,
        doc="Seconds one call of a code variant may take.",
    ),
    Setting(
        name="codeworld_memory_mb",
        env=("SCILLM_CODEWORLD_MEMORY_MB",),
        kind="int",
        default=512,
        doc="Megabytes of memory a code variant's process may use.",
    ),
)

ISOLATION_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codeworld_isolation",
        env=("SCILLM_CODEWORLD_ISOLATION",),
        doc="The weakest isolation that will do: L1 to L4, or wasm. Below it nothing is run.",
    ),
    Setting(
        name="codeworld_cgroup",
        env=("SCILLM_CODEWORLD_CGROUP",),
        doc="A delegated control group (version 2) for level L4: /sys/fs/cgroup/…",
    ),
    Setting(
        name="codeworld_container",
        env=("SCILLM_CODEWORLD_CONTAINER",),
        doc="A command that runs a command in a container: docker run --rm -i --network none IMAGE",
    ),
    Setting(
        name="codeworld_wasm_cache",
        env=("SCILLM_CODEWORLD_WASM_CACHE",),
        doc="Where level wasm keeps its interpreter; without it ~/.cache/scillm/wasm.",
    ),
)
"""Of the sandbox, not of one job: `open_sandbox` reads them where its caller gives none."""


GENERATE_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codeworld_generate",
        env=("CODEWORLD_ENABLE_MCTS_GENERATE",),
        kind="bool",
        default=True,
        doc="Whether a model may be asked to write programs.",
    ),
    Setting(
        name="codeworld_auto_model",
        env=("CODEWORLD_MCTS_AUTO_MODEL", "CODEX_AGENT_MODEL"),
        doc="The model that writes programs where the call names none: openai/…, codex-agent/…",
    ),
    Setting(
        name=AUTO_API_BASE,
        env=("CODEWORLD_MCTS_AUTO_API_BASE",),
        doc="Where that model is served; not used for a model that the call names.",
    ),
    Setting(
        name="codeworld_auto_n",
        env=("CODEWORLD_MCTS_AUTO_N",),
        kind="int",
        doc="Programs a model writes for an item (default 3).",
    ),
    Setting(
        name="codeworld_auto_temperature",
        env=("CODEWORLD_MCTS_AUTO_TEMPERATURE",),
        kind="float",
        doc="Temperature of that call (default 0).",
    ),
    Setting(
        name="codeworld_auto_max_tokens",
        env=("CODEWORLD_MCTS_AUTO_MAX_TOKENS",),
        kind="int",
        doc="Longest answer of that call, in tokens (default 2000).",
    ),
    Setting(
        name="codeworld_auto_timeout_s",
        env=("CODEWORLD_AUTOGEN_HTTP_TIMEOUT_S",),
        kind="float",
        doc="Seconds that call may take (default 120).",
    ),
    Setting(
        name="deterministic_seed",
        env=("SCILLM_DETERMINISTIC_SEED",),
        doc="The seed where a call gives none: a whole number, or any text.",
    ),
)
"""Of programs written by a model, and of luck."""

BRIDGE_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="codeworld_base",
        env=("CODEWORLD_BASE",),
        doc="The bridge that runs CodeWorld's jobs, such as http://127.0.0.1:8888; none: here.",
    ),
    Setting(
        name="codeworld_token",
        env=("CODEWORLD_TOKEN",),
        secret=True,
        doc="What the bridge asks its clients for, and what a client sends.",
    ),
    Setting(
        name="codeworld_keep",
        env=("CODEWORLD_BRIDGE_KEEP",),
        kind="bool",
        default=True,
        doc="Whether the bridge keeps a record of its runs in SCILLM_RUNS_DIR.",
    ),
    Setting(
        name="codeworld_sessions",
        env=("SCILLM_CODEWORLD_SESSIONS",),
        secret=True,
        doc="Where sessions are kept: a file, or redis://…; without it a file beside the runs.",
    ),
)
"""Of the HTTP bridge and its clients."""

ALL_SETTINGS = (*SETTINGS, *ISOLATION_SETTINGS, *GENERATE_SETTINGS, *BRIDGE_SETTINGS)


def isolation_settings() -> Mapping[str, Json]:
    """The values of ISOLATION_SETTINGS, from the environment."""
    return load(more=ISOLATION_SETTINGS)


def options_from(settings: Mapping[str, Json], given: Mapping[str, Json]) -> Options:
    """The options of `given`, the rest from `settings` and the defaults; `UsageError` as there.

    What is said about generation falls back on GENERATE_SETTINGS.
    """
    auto = {
        row.name.removeprefix(AUTO_PREFIX): settings[row.name]
        for row in GENERATE_SETTINGS
        if row.name.startswith(AUTO_PREFIX) and settings.get(row.name) is not None
    }
    if names_model(given):
        auto.pop("api_base", None)
    given = merged_wish(given, auto)
    if given.get(AUTOGENERATE) and settings.get("codeworld_generate") is False:
        raise UsageError(
            "CODEWORLD_ENABLE_MCTS_GENERATE=0 says that no model may write programs, but "
            "autogenerate asks for some. Leave one of them out."
        )
    set_ones = {
        row.name.removeprefix(PREFIX): settings[row.name]
        for row in (*SETTINGS, *ISOLATION_SETTINGS[:1])
        if settings.get(row.name) is not None
    }
    return parse_options(set_ones | given)


def seed_from(settings: Mapping[str, Json], given: Json) -> int:
    """The seed `given`, else that of SCILLM_DETERMINISTIC_SEED, else 0.

    A text that is no whole number counts as the first 64 bits of its SHA-256. Raises `UsageError`
    when `given` is no whole number.
    """
    if given is None:
        text = settings.get("deterministic_seed")
        return 0 if text is None else number_of(str(text))
    if isinstance(given, bool) or not isinstance(given, int):
        raise UsageError(f"seed must be a whole number, but is {given!r}.")
    return given


def number_of(text: str) -> int:
    """A text as a seed."""
    try:
        return int(text)
    except ValueError:
        return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)
