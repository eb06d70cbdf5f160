"""The two steps of making the component, in the folder it is started in. Run by path.

Its outside libraries are imported here, in a process of its own, and nowhere else but `worker`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def build() -> None:
    """From guest.py, runner.py and world.wit to cell.wasm; every door to the host is walled up."""
    from importlib import import_module

    componentize_py = import_module("componentize_py")

    # It reads its arguments as a program does.
    sys.argv = ["componentize-py", "-d", "world.wit", "-w", "cell"]
    sys.argv += ["componentize", "--stub-wasi", "-p", ".", "guest", "-o", "cell.wasm"]
    componentize_py.script()


def compile_it() -> None:
    """From cell.wasm to cell.cwasm, machine code that counts its fuel."""
    import wasmtime
    from wasmtime import component

    config = wasmtime.Config()
    config.consume_fuel = True
    made = component.Component.from_file(wasmtime.Engine(config), "cell.wasm")
    with open("cell.cwasm", "wb") as file:  # noqa: PTH123
        file.write(made.serialize())


def end_with_parent() -> None:
    """Leave when stdin ends, which is when the parent does: half a component is of no use."""

    def wait() -> None:
        while os.read(0, 1):  # not by way of sys.stdin, whose lock would be held at our own end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":  # the builder holds the interpreter's lock, so no thread may run
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    {"build": build, "compile": compile_it}[sys.argv[1]]()
