"""Which proxy a call goes through, and which calls go directly."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import SettingsError
from scillm.http.proxies import Proxy, ProxyRules, bypassed, read_proxy

LABEL = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
PORT = st.integers(1, 65535)


@given(host=HOST, port=PORT, scheme=st.sampled_from(["http", "https"]))
def test_without_rules_nothing_is_proxied(host, port, scheme):
    """No setting, no proxy."""
    assert ProxyRules().proxy_for(scheme, host, port) is None
    assert ProxyRules(http="", https="", no_proxy="x").proxy_for(scheme, host, port) is None


@given(host=HOST, port=PORT)
def test_each_scheme_has_its_own_proxy(host, port):
    """http targets use http_proxy, https targets https_proxy."""
    rules = ProxyRules(http="p:1", https="q:2")

    assert rules.proxy_for("http", host, port) == Proxy(url="http://p:1")
    assert rules.proxy_for("https", host, port) == Proxy(url="http://q:2")


@given(host=HOST, port=PORT, sub=LABEL, others=st.lists(LABEL.map(lambda name: f"{name}.example")))
def test_a_named_host_and_its_subdomains_are_reached_directly(host, port, sub, others):
    """With or without leading dot, in any case, anywhere in the list."""
    for entry in (host, f".{host}", host.upper(), f"{host}:{port}"):
        listed = ", ".join([*others, entry])

        assert bypassed(host, port, listed)
        assert bypassed(f"{sub}.{host}.", port, listed)


@given(host=HOST, port=PORT)
def test_neighbours_and_other_ports_are_not_meant(host, port):
    """`local.com` does not cover `notlocal.com`, nor a port every port."""
    assert not bypassed(f"x{host}", port, host)
    assert not bypassed(host, port, f"{host}:{port % 65535 + 1}")
    assert not bypassed(f"{host}.evil", port, host)
    assert bypassed(host, port, "*")
    assert not bypassed(host, port, "")


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", False),
        ("localhost", "localhost,127.0.0.1", True),
        ("::1", "[::1]", True),
        ("::1", "::1", True),
        ("::1", "[::1]:80", True),
        ("::1", "[::1]:81", False),
        ("a.b", "a.b c.d", True),
        ("a.b", "., ,:", False),
    ],
)
def test_addresses_and_odd_lists(host, no_proxy, direct):
    """IPv6 with brackets or without, blanks as separators, entries that say nothing."""
    assert bypassed(host, 80, no_proxy) is direct


@given(user=st.text(min_size=1, max_size=8), password=st.text(max_size=8))
def test_credentials_become_a_header(user, password):
    """Percent-encoded user and password arrive as they were meant, and are not in the repr."""

    def quoted(text):
        return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "replace"))

    proxy = read_proxy(f"http://{quoted(user)}:{quoted(password)}@p:3128/", setting="http_proxy")
    pair = f"{user}:{password}".encode("utf-8", "replace")

    assert proxy.url == "http://p:3128"
    assert base64.b64decode(proxy.authorization.removeprefix("Basic ")) == pair
    assert proxy.authorization not in repr(proxy)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("p", "http://p:1080"),
        ("p:8080", "http://p:8080"),
        ("HTTP://p:8080/", "http://p:8080"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://user@p:1", "http://p:1"),
    ],
)
def test_the_forms_of_a_proxy(text, url):
    """With and without scheme, port and slash, as in curl."""
    assert read_proxy(text, setting="http_proxy").url == url


@pytest.mark.parametrize("text", ["socks5://p:1", "https://p:1"])
def test_other_kinds_of_proxy_are_refused_by_name(text):
    """The message says what is understood."""
    with pytest.raises(SettingsError, match=r"https_proxy names a .*only http"):
        read_proxy(text, setting="https_proxy")


@pytest.mark.parametrize(
    "text", ["http://", "http://u:secret@p:1:2", "p:99999", "a b", "http://p/x"]
)
def test_what_is_no_proxy_is_refused_unseen(text):
    """A password in it is not repeated."""
    with pytest.raises(SettingsError, match="http_proxy must be") as caught:
        read_proxy(text, setting="http_proxy")

    assert "secret" not in str(caught.value)
