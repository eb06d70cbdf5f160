"""The two steps of making the component, in the folder it is started in. Run by path.

Its outside libraries are imported here, in a process of its own, and nowhere else but `worker`.
"""

from __future__ import annotations

import sys


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


if __name__ == "__main__":
    {"build": build, "compile": compile_it}[sys.argv[1]]()
