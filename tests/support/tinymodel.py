"""A real model server for tests: llama.cpp in a child process, serving the tiny model."""

from __future__ import annotations

import importlib.util
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx

from support.make_tiny_gguf import GREEDY_TEXT, write_bigram
from support.serve_tiny import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 60.0
STOP_S = 10.0
GREEDY_TOKENS = 11
"""Tokens of `GREEDY_TEXT` and of the end mark after it."""


class TinyModelUnavailableError(Exception):
    """Here, llama.cpp's wheel is not installed or does not load."""


def check_available() -> None:
    """Raise `TinyModelUnavailableError` where the server or the model cannot be made."""
    if os.name != "posix":
        raise TinyModelUnavailableError("The tiny model's server is only started on POSIX systems.")
    missing = [
        name for name in ("xllamacpp", "gguf", "numpy") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise TinyModelUnavailableError(
            f"The tiny model needs {', '.join(missing)}, which is not installed here. "
            "Run `uv sync --all-packages`; xllamacpp has wheels for Linux, macOS and Windows."
        )


@contextmanager
def serve_tiny_model(
    folder: Path, *, always_calls: bool = False, embeds: bool = False
) -> Iterator[str]:
    """Build the model in `folder`, serve it, yield the base URL; the child dies with the context.

    `always_calls` makes a model that opens a tool call whatever it is asked; `embeds` a server of
    its vectors (the mean over a text's tokens).
    """
    check_available()
    model = folder / ("tiny-caller.gguf" if always_calls else "tiny.gguf")
    write_bigram(model, always_calls=always_calls)
    log = folder / f"{model.stem}.log"
    command = [sys.executable, str(Path(__file__).with_name("serve_tiny.py")), str(model)]
    command += ["--embedding"] if embeds else []
    with log.open("wb") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        assert child.stdout is not None
        address = _first_line(child.stdout, READY_S)
        if address.startswith(UNAVAILABLE):
            raise TinyModelUnavailableError(f"xllamacpp does not load here, {address}")
        if not address.startswith("http://127.0.0.1:"):
            said = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"The tiny model's server did not start: {address!r}\n{said}")
        _wait_for_health(address, READY_S)
        yield f"{address}/v1"
    finally:
        _end(child)


def _first_line(stream: IO[bytes], limit_s: float) -> str:
    """What `stream` says before its first line ends, it ends itself, or time is up."""
    end_s, said = time.monotonic() + limit_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while b"\n" not in said and (left_s := end_s - time.monotonic()) > 0:
            if selector.select(left_s):
                data = os.read(stream.fileno(), 4096)
                if not data:
                    break
                said += data
    return said.decode(errors="replace").partition("\n")[0].strip()


def _wait_for_health(address: str, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    with httpx.Client(timeout=5.0) as client:
        while (status := client.get(f"{address}/health").status_code) != 200:
            if time.monotonic() > end_s:
                raise TimeoutError(f"The tiny model still said {status} after {limit_s} s.")
            time.sleep(0.05)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(STOP_S)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


__all__ = [
    "GREEDY_TEXT",
    "GREEDY_TOKENS",
    "TinyModelUnavailableError",
    "check_available",
    "serve_tiny_model",
]
