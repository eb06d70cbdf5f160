"""A real redis-server of the test's own, on loopback, empty, gone with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Serve until the context is left, which kills it; gives the URL without a database.

    Skips the test where the program redis-server or the package redis is missing.
    """
    redis = pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install -y redis-server)")
    number = free_port() if port is None else port
    command = [
        program, "--port", str(number), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        "--dir", str(folder),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + START_LIMIT_S
            with redis.Redis(port=number) as client:
                while True:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        assert time.monotonic() < deadline, "redis-server did not start in time"
                        time.sleep(0.02)
            yield f"redis://127.0.0.1:{number}"
        finally:
            server.kill()
            server.wait(STOP_LIMIT_S)
