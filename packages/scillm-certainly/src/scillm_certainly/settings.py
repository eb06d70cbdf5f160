"""Certainly's settings."""

from __future__ import annotations

from collections.abc import Mapping

from scillm.records import Json, Setting

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="certainly_home",
        env=("SCILLM_CERTAINLY_HOME",),
        kind="path",
        default="~/.cache/scillm/certainly",
        doc="Folder of the embedded Lean.",
    ),
    Setting(
        name="certainly_backend",
        env=("SCILLM_CERTAINLY_BACKEND", "CERTAINLY_BACKEND"),
        doc="The only Lean to use: native, repl or wasm; not set: the first that is there.",
    ),
    Setting(
        name="certainly_lean",
        env=("SCILLM_CERTAINLY_LEAN", "LEAN_BIN"),
        kind="path",
        doc="A native `lean` program.",
    ),
    Setting(
        name="certainly_repl",
        env=("SCILLM_CERTAINLY_REPL",),
        kind="path",
        doc="A leanprover-community REPL program.",
    ),
    Setting(
        name="certainly_project",
        env=("SCILLM_CERTAINLY_PROJECT",),
        kind="path",
        doc="A Lake project whose libraries a native Lean or a REPL can import.",
    ),
    Setting(
        name="certainly_node",
        env=("SCILLM_CERTAINLY_NODE",),
        doc="The Node program that runs the embedded Lean.",
    ),
    Setting(
        name="certainly_workers",
        env=("SCILLM_CERTAINLY_WORKERS",),
        kind="int",
        doc="Checks at once: a warm Lean each, and one more that judges for every two (about 1 GB "
        "each); not set: one per core, as memory allows.",
    ),
    Setting(
        name="certainly_spare",
        env=("SCILLM_CERTAINLY_SPARE",),
        kind="bool",
        default=True,
        doc="Keep one more process warm, to stand in for one that has to be ended.",
    ),
    Setting(
        name="certainly_queue",
        env=("SCILLM_CERTAINLY_QUEUE",),
        kind="int",
        default=256,
        doc="Checks that may wait; one more is refused with a time to come back.",
    ),
    Setting(
        name="certainly_one_caller",
        env=("SCILLM_CERTAINLY_ONE_CALLER",),
        kind="bool",
        default=False,
        doc="Whether all code is one caller's. Then a process that ran programs of a file (macros, "
        "`#eval`) reads the next one too: no new start, but the first may falsify the next.",
    ),
    Setting(
        name="certainly_memory_mb",
        env=("SCILLM_CERTAINLY_MEMORY_MB",),
        kind="int",
        default=16_384,
        doc="Memory of a native Lean or a REPL (its addresses; its data in a sandbox), in MB.",
    ),
    Setting(
        name="certainly_sandbox",
        env=("SCILLM_CERTAINLY_SANDBOX",),
        kind="bool",
        doc="Whether scillm-codeworld's sandbox holds a native Lean: 1 always, 0 never (our own "
        "launcher does); not set: where there is one.",
    ),
    Setting(
        name="certainly_timeout_s",
        env=("SCILLM_CERTAINLY_TIMEOUT_S", "LEAN4_BRIDGE_TIMEOUT_SECONDS"),
        kind="float",
        default=60.0,
        doc="Seconds one check may take.",
    ),
    Setting(
        name="certainly_bridge_base",
        env=("CERTAINLY_BRIDGE_BASE", "LEAN4_BRIDGE_BASE"),
        doc="Base URL of a Certainly bridge; not set: the work is done in this process.",
    ),
    Setting(
        name="certainly_token",
        env=("SCILLM_CERTAINLY_TOKEN", "CERTAINLY_BRIDGE_TOKEN", "LEAN_SERVER_API_KEY"),
        secret=True,
        doc="The token that callers of `scillm certainly serve` must bring.",
    ),
    Setting(
        name="certainly_model",
        env=("SCILLM_CERTAINLY_MODEL", "CERTAINLY_MODEL"),
        doc="A chat model that may formalise and prove requirements; not set: none is asked.",
    ),
    Setting(
        name="certainly_attempts",
        env=("SCILLM_CERTAINLY_ATTEMPTS",),
        kind="int",
        default=6,
        doc="Answers a model may give for one statement, and again for one proof.",
    ),
    Setting(
        name="certainly_attach_both",
        env=("SCILLM_CERTAINLY_ATTACH_BOTH", "LITELLM_CERTAINLY_ATTACH_BOTH"),
        kind="bool",
        default=True,
        doc='Mirror additional_kwargs["certainly"] under "lean4".',
    ),
)


def defaults_of(settings: Mapping[str, Json]) -> dict[str, Json]:
    """The job options that settings stand in for."""
    return {"check_seconds": settings["certainly_timeout_s"]}
