"""A small HTTP proxy on loopback: forwards http, tunnels https, may want a password.

with HttpProxy() as proxy:
    ... a client that is told to use proxy.url ...
    assert proxy.asked == ["CONNECT 127.0.0.1:443"]
"""

from __future__ import annotations

import select
import socket
import threading
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

POLL_S = 0.05
TIMEOUT_S = 10.0
REFUSAL = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class HttpProxy:
    """One thread per connection. Remembers what was asked of it, and the heads it read."""

    def __init__(self, *, user: str = "", password: str = "") -> None:
        pair = f"{user}:{password}"
        self._wanted = "Basic " + b64encode(pair.encode()).decode() if user else ""
        self._credentials = f"{pair}@" if user else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL_S)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.asked: list[str] = []
        """Method and target of every request, refused ones included."""
        self.heads: list[str] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """What a client is told, with the credentials it needs."""
        return f"http://{self._credentials}127.0.0.1:{self.port}"

    @property
    def url_without_password(self) -> str:
        """What a client is told that lacks the credentials."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        self._listener.close()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(TIMEOUT_S)
            while head := self._head(client):
                if not self._answer(client, head):
                    return

    def _head(self, client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return b""
            data += piece
        return data

    def _answer(self, client: socket.socket, data: bytes) -> bool:
        """Whether the connection can carry another request."""
        raw_head, _, rest = data.partition(b"\r\n\r\n")
        head = raw_head.decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        self.heads.append(head)
        self.asked.append(f"{method} {target}")
        lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in lines}
        if self._wanted and headers.get("proxy-authorization") != self._wanted:
            client.sendall(REFUSAL)
            return False
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S) as upstream:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._shovel(client, upstream)
            return False
        self._forward(client, head, headers, rest)
        return False

    def _forward(
        self, client: socket.socket, head: str, headers: dict[str, str], rest: bytes
    ) -> None:
        method, target, version = head.split("\r\n", 1)[0].split(" ")
        url = urlsplit(target)
        kept = [
            f"{name}: {value}"
            for name, value in headers.items()
            if name not in ("proxy-authorization", "connection", "proxy-connection")
        ]
        path = url.path + (f"?{url.query}" if url.query else "")
        lines = [f"{method} {path} {version}", *kept, "connection: close"]
        address = (url.hostname or "", url.port or 80)
        with socket.create_connection(address, TIMEOUT_S) as upstream:
            upstream.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + rest)
            self._shovel(client, upstream)

    def _shovel(self, client: socket.socket, upstream: socket.socket) -> None:
        """Carry bytes both ways until either side ends."""
        ended = threading.Event()
        self._start(self._carry, client, upstream, ended)
        self._carry(upstream, client, ended)

    def _carry(self, source: socket.socket, sink: socket.socket, ended: threading.Event) -> None:
        with suppress(OSError, ValueError):  # the other direction may have closed both
            while not ended.is_set() and not self._stopping.is_set():
                if select.select([source], [], [], POLL_S)[0]:
                    data = source.recv(65536)
                    if not data:
                        break
                    sink.sendall(data)
        ended.set()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
