"""The settings choose the transport, its proxies and the authorities it trusts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import scillm
from scillm.errors import SettingsError
from scillm.http.aiohttp_transport import AiohttpTransport
from scillm.http.choice import make_transport
from scillm.http.transport import HttpxTransport
from scillm.plugins.settings import load
from support.certificates import make_certificates
from support.faulty import FaultyServer
from support.proxy import HttpProxy

MESSAGES = [{"role": "user", "content": "hi"}]
both = pytest.mark.parametrize("name", ["httpx", "aiohttp"])


def ask(server, environ, **more):
    """One call of a Router whose settings come from `environ`."""
    with scillm.Router(settings=load(environ)) as router:
        return router.completion("openai/m", MESSAGES, api_base=server.base_url, **more).text


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, HttpxTransport),
        ({"SCILLM_TRANSPORT": "httpx"}, HttpxTransport),
        ({"SCILLM_TRANSPORT": " AIOHTTP "}, AiohttpTransport),
    ],
)
def test_the_setting_names_the_transport(environ, kind):
    """httpx unless something else was asked for."""
    assert type(make_transport(load(environ))) is kind
    assert type(make_transport({})) is HttpxTransport


def test_an_unknown_transport_is_refused():
    """The message lists the ones there are."""
    with pytest.raises(SettingsError, match=r"httpx or aiohttp, but is 'curl'"):
        make_transport(load({"SCILLM_TRANSPORT": "curl"}))


def test_a_missing_extra_names_the_pip_line():
    """Without aiohttp the error at first use says how to get it; nothing else is affected."""
    script = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from scillm.http.choice import make_transport\n"
        "make_transport({})\n"
        "make_transport({'transport': 'aiohttp'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert done.stderr.strip().endswith("pip install 'scillm-core[aiohttp]'")
    assert "SettingsError" in done.stderr


@both
def test_a_router_asks_through_the_transport_of_its_settings(faulty_server, name):
    """Sync and streamed calls work on either."""
    environ = {"SCILLM_TRANSPORT": name}

    assert ask(faulty_server, environ) == "echo:hi"
    with scillm.Router(settings=load(environ)) as router:
        stream = router.completion(
            "openai/m", MESSAGES, api_base=faulty_server.base_url, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "echo:hi"


@both
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_the_environment_names_the_proxy(faulty_server, name, variable):
    """Loopback too is asked through it, unless NO_PROXY says otherwise."""
    with HttpProxy(user="me", password="secret-of-a-proxy") as proxy:
        environ = {"SCILLM_TRANSPORT": name, variable: proxy.url}

        assert ask(faulty_server, environ) == "echo:hi"
        assert len(proxy.asked) == 1
        assert ask(faulty_server, {**environ, "NO_PROXY": "127.0.0.1"}) == "echo:hi"
        assert len(proxy.asked) == 1


@both
def test_the_environment_names_the_authorities(tmp_path, name):
    """SCILLM_CA_BUNDLE goes before SSL_CERT_FILE; HTTPS_PROXY is used for https."""
    made = make_certificates(tmp_path)
    with FaultyServer(tls=made.server_context()) as server, HttpProxy() as proxy:
        environ = {
            "SCILLM_TRANSPORT": name,
            "SCILLM_CA_BUNDLE": str(made.authority),
            "SSL_CERT_FILE": "/nowhere.pem",
            "HTTPS_PROXY": proxy.url,
            "HTTP_PROXY": "http://127.0.0.1:1",
        }

        assert ask(server, environ) == "echo:hi"
        assert proxy.asked == [f"CONNECT 127.0.0.1:{server.port}"]


def test_a_proxy_is_a_secret_setting():
    """`scillm config` masks it, since it may hold a password."""
    rows = {row.setting.name: row for row in load({"HTTPS_PROXY": "http://u:pw@h:1"}).rows()}

    assert rows["https_proxy"].shown() == "***"
    assert rows["https_proxy"].source == "HTTPS_PROXY"
