"""Tests cannot leave this machine."""

from __future__ import annotations

import socket

import httpx
import pytest
from support.loopback import OutsideTrafficError, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "a.localhost", ""])
def test_this_machine_is_loopback(host: str) -> None:
    """Every spelling of this machine is allowed."""
    assert is_loopback(host)
    assert is_loopback(host.encode())


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "2001:db8::1", "localhost.example.com"])
def test_everything_else_is_not(host: str) -> None:
    """Addresses and names of other machines are refused."""
    assert not is_loopback(host)


def test_a_client_is_refused_by_address_and_by_name() -> None:
    """An HTTP client in a test cannot reach out, and does not mistake that for an outage."""
    for url in ("http://192.0.2.1/", "http://example.com/", "http://[2001:db8::1]/"):
        with pytest.raises(OutsideTrafficError, match="loopback"):
            httpx.get(url, timeout=1.0)


def test_raw_sockets_are_refused() -> None:
    """Neither streams nor datagrams leave."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OutsideTrafficError):
            sock.sendto(b"x", ("192.0.2.1", 9))
        with pytest.raises(OutsideTrafficError):
            sock.sendto(b"x", 0, ("192.0.2.1", 9))
    with socket.socket(socket.AF_INET) as sock, pytest.raises(OutsideTrafficError):
        sock.connect_ex(("192.0.2.1", 9))


def test_names_that_cannot_exist_fail_as_they_do_in_life() -> None:
    """A name that does not resolve can be tested without asking a name server."""
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://nobody.invalid/", timeout=1.0)
