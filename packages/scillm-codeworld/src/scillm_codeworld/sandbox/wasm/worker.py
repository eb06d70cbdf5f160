"""The process that runs the component: a fresh instance for each order. Run by path.

It reads orders as JSON lines from stdin and answers each with one JSON line on stdout. What the
program says comes as one text inside it, which the parent judges; all else here is ours.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import wasmtime
from wasmtime import component

OUT_OF_FUEL = "all fuel consumed"
LOADED = '{"status": "loaded"'
REASON_CHARS = 300
ENVELOPE_CHARS = 65_536


class Machine:
    """The compiled component. Holds one engine, from which every run gets a store of its own."""

    def __init__(self, path: str) -> None:
        config = wasmtime.Config()
        config.consume_fuel = True
        self._engine = wasmtime.Engine(config)
        self._component = component.Component.deserialize_file(self._engine, path)
        self._linker = component.Linker(self._engine)

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Load and call in a fresh instance; says how far it came, its cost, its words."""
        store = wasmtime.Store(self._engine)
        store.set_fuel(order["fuel"])
        store.set_limits(memory_size=order["memory_bytes"])
        told: dict[str, Any] = {"stage": "load"}
        words = json.dumps({name: order[name] for name in ("code", "entry", "output_bytes")})
        try:
            instance = self._linker.instantiate(store, self._component)
            told |= _asked(store, instance, "load", words)
            if told["said"].startswith(LOADED):
                told = {"stage": "call", "load_s": told["took_s"]}
                store.set_fuel(order["fuel"])
                told |= _asked(store, instance, "call", order["input"])
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            text = str(error).strip()
            told["trap"] = "fuel" if OUT_OF_FUEL in text else text[-REASON_CHARS:]
        except UnicodeDecodeError as error:  # its text need not be text
            told["trap"] = f"what it said is no Unicode: {error}"[:REASON_CHARS]
        if len(told.get("said", "")) > most_chars(order["output_bytes"]):
            told |= {"said": "", "trap": "output"}
        return told


def most_chars(output_bytes: int) -> int:
    """How long a reply can be that keeps to the limit: an answer and two escaped streams."""
    return 13 * output_bytes + ENVELOPE_CHARS


def _asked(store: Any, instance: Any, name: str, words: str) -> dict[str, Any]:
    function = instance.get_func(store, name)
    before, started = store.get_fuel(), time.perf_counter()
    said = function(store, words)
    took_s = time.perf_counter() - started
    return {"said": said, "fuel": before - store.get_fuel(), "took_s": took_s}


def orders() -> Iterator[bytes]:
    """Lines of stdin. At its end the process ends, in the middle of a run too: nobody waits for it.

    The reading has a thread of its own, which goes on while the machine works.
    """
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main() -> None:
    """Serve orders until stdin ends."""
    machine = Machine(sys.argv[1])
    answers = sys.stdout.buffer
    answers.write(b'{"up": true}\n')
    answers.flush()
    for line in orders():
        answers.write(json.dumps(machine.run(json.loads(line))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
