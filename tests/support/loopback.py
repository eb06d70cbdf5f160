"""Keeps the test process on this machine: sockets and names beyond loopback are refused.

Child processes are not covered. Names under `.invalid` fail as RFC 6761 says they must, without
a question to any name server.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERNET = {socket.AF_INET, socket.AF_INET6}


class OutsideTrafficError(AssertionError):
    """A test tried to leave this machine. No OSError, so that no client takes it for a failure."""


def is_loopback(host: object) -> bool:
    """Whether `host` is this machine, by address or by name."""
    if host is None:
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if text in {"", "localhost"} or text.endswith(".localhost"):
        return True
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def _refuse(host: object) -> None:
    raise OutsideTrafficError(
        f"A test may only talk to loopback, but it asked for {host!r}. "
        "Use the `faulty_server` fixture, or a server of your own on 127.0.0.1."
    )


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family in INTERNET and not is_loopback(address[0]):
        _refuse(address[0])


def _guarded(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(sock: socket.socket, *args: Any) -> Any:
        # connect(address), connect_ex(address), sendto(data[, flags], address)
        _check(sock, args[-1])
        return real(sock, *args)

    return call


@contextmanager
def loopback_only() -> Iterator[None]:
    """Refuse everything else until the context is left."""
    names = ("connect", "connect_ex", "sendto")
    inherited = {name: getattr(socket.socket, name) for name in names}
    resolve = socket.getaddrinfo

    def guarded_resolve(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        if name.rstrip(".").endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not is_loopback(host):
            _refuse(host)
        return resolve(host, *args, **options)

    for name, real in inherited.items():
        setattr(socket.socket, name, _guarded(real))
    socket.getaddrinfo = guarded_resolve
    try:
        yield
    finally:
        socket.getaddrinfo = resolve
        for name, real in inherited.items():
            setattr(socket.socket, name, real)
