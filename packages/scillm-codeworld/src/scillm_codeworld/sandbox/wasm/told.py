"""What a worker told of a run, as an execution. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from scillm_codeworld.records import EXCEPTION, OK, OUTPUT_LIMIT, TIMEOUT, Execution
from scillm_codeworld.sandbox.reply import ANSWERING, LOADING, cut, failure, parse_reply

if TYPE_CHECKING:
    from scillm.records import Json, Limits

FUEL_PER_S = 10_000_000_000
"""What a second of the time limit buys, whatever the machine: so a timeout is the same anywhere."""
SLOW_MACHINE = 10.0
"""How much slower than that a machine may be before the clock ends a run all the same."""
STOPPED = "it asked for what level wasm does not have: a clock, randomness, a file or a process"


def read(told: Mapping[str, Json] | None, limits: Limits) -> Execution:
    """The execution a worker's reply amounts to."""
    if told is None:
        return Execution(status=TIMEOUT, reason=f"the machine did not end it in {SLOW_MACHINE:g} "
                         f"times {limits.time_s:g} s")  # fmt: skip
    calling = told["stage"] == "call"
    load_s, wall_s = (told.get("load_s"), told.get("took_s")) if calling else (None, None)
    if "trap" in told:
        run = _trapped(str(told["trap"]), limits, doing="answer" if calling else "load")
        return evolve(run, load_s=load_s)
    said = str(told["said"]).encode("utf-8", "replace")
    reply = parse_reply(said, ANSWERING if calling else LOADING)
    for name in ("stdout", "stderr"):
        if len(str(reply.get(name, "")).encode("utf-8", "replace")) > limits.output_bytes:
            reason = f"it wrote more than {limits.output_bytes} bytes to {name}"
            return Execution(status=OUTPUT_LIMIT, reason=reason, load_s=load_s)
    if not calling or reply["status"] != OK:
        run = evolve(failure(reply), wall_s=wall_s)
    elif len(json.dumps(reply.get("output"))) > limits.output_bytes:
        reason = f"its answer has more than {limits.output_bytes} bytes"
        run = Execution(status=OUTPUT_LIMIT, reason=reason)
    else:
        fuel = int(told["fuel"])
        run = Execution(status=OK, output=reply.get("output"), wall_s=wall_s, fuel=fuel)
    stdout, stderr = _text(reply.get("stdout")), _text(reply.get("stderr"))
    return evolve(run, load_s=load_s, stdout=stdout, stderr=stderr)


def _text(said: Json) -> str:
    return said.encode("utf-8", "replace").decode() if isinstance(said, str) else ""


def _trapped(trap: str, limits: Limits, *, doing: str) -> Execution:
    if trap == "fuel":
        fuel = limits.time_s * FUEL_PER_S
        return Execution(
            status=TIMEOUT,
            reason=f"it did not {doing} within {limits.time_s:g} s, which are {fuel:g} of fuel",
        )
    if trap == "output":
        reason = f"what it said is far longer than {limits.output_bytes} bytes"
        return Execution(status=OUTPUT_LIMIT, reason=reason)
    if "unreachable" in trap:
        return Execution(status=EXCEPTION, reason=STOPPED)
    return Execution(status=EXCEPTION, reason=cut(f"its instance was stopped: {trap}"))
