"""The fake says what the real service says, word for word where clients depend on it."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_chutes.fake import FakeAccount, FakeChutes
from scillm_chutes.fake.accounts import KEY

CHAT = {"model": "acme/Alder-3-32B", "messages": [{"role": "user", "content": "Hello"}]}


def ask(
    fake: FakeChutes, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request over a connection of its own."""
    _, _, place = fake.url.partition("//")
    connection = http.client.HTTPConnection(place, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = json.dumps(body).encode() if body is not None else None
    try:
        connection.request(method, path, raw, {"Content-Type": "application/json", **named})
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def chat(fake: FakeChutes, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return ask(fake, "POST", "/_llm/v1/chat/completions", body or CHAT, **headers)


@pytest.mark.parametrize("form", ["Bearer {}", "Basic {}", "{}"])
def test_a_key_is_read_in_three_forms(fake: FakeChutes, form: str) -> None:
    """The last word of Authorization is the token."""
    status, headers, body = chat(fake, authorization=form.format(fake.key))

    assert status == 200
    assert json.loads(body)["model"] == "acme/Alder-3-32B"
    assert headers["x-chutes-rl-user"] == "60"
    assert "retry-after" not in headers


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({}, 429, "<h1>429 Too Many Requests</h1>"),
        ({"x_api_key": "cpk_x"}, 429, "nginx"),
        ({"authorization": "Bearer sk-1"}, 401, "Invalid token."),
        ({"authorization": "Bearer cpk_1"}, 401, "Missing or invalid authorization header(s)"),
        ({"authorization": "Bearer cak_1"}, 403, "does not have permission"),
        (
            {"authorization": f"Bearer cpk_{'a' * 32}.{'b' * 32}.{'C' * 32}"},
            401,
            "Invalid token or user not found",
        ),
    ],
)
def test_the_auth_matrix(fake: FakeChutes, headers: dict[str, str], status: int, text: str) -> None:
    """Anonymous calls and X-API-Key meet the edge's page; wrong tokens the app's detail."""
    code, kind, body = chat(fake, **headers)

    assert code == status
    assert text in body.decode()
    assert kind["content-type"] == ("text/html" if status == 429 else "application/json")


def test_hosts_are_told_apart_by_name_too(fake: FakeChutes) -> None:
    """The Host header decides where no path prefix does; utilization is not on the llm host."""
    api = ask(fake, "GET", "/chutes/utilization", Host="api.chutes.ai")
    llm = ask(fake, "GET", "/chutes/utilization", Host="llm.chutes.ai")

    assert (api[0], llm[0]) == (200, 404)
    assert {"[private chute]", "ivy/Ivy-Image-2"} <= {row["name"] for row in json.loads(api[2])}
    assert json.loads(llm[2]) == {"detail": "No matching cord found!"}


def test_models_are_public_and_a_key_is_checked_elsewhere(fake: FakeChutes) -> None:
    """/v1/models answers anybody; /users/me does not."""
    assert ask(fake, "GET", "/_llm/v1/models", authorization="Bearer nonsense")[0] == 200
    assert ask(fake, "GET", "/_api/users/me", authorization="Bearer nonsense")[0] == 401
    assert ask(fake, "GET", "/_api/users/me", authorization=f"Bearer {fake.key}")[0] == 200


def test_lists_aliases_and_siblings_are_served(fake: FakeChutes) -> None:
    """A comma list fails over, a suffix is understood, a plain name finds its -TEE sibling."""
    fake.models["acme/Alder-3-32B"].concurrency = 0
    key = {"authorization": f"Bearer {fake.key}"}
    listed = chat(fake, {**CHAT, "model": "acme/Alder-3-32B,elm/Elm-8B:latency"}, **key)
    sibling = chat(fake, {**CHAT, "model": "birch-ai/Birch-V3.1"}, **key)

    assert json.loads(listed[2])["model"] == "elm/Elm-8B"
    assert json.loads(sibling[2])["model"] == "birch-ai/Birch-V3.1-TEE"


@given(st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_the_limiter_lets_sixty_a_minute_through(gaps: list[float]) -> None:
    """In any time t at most 60 + t calls pass, and a ban lasts twice as long as the one before."""
    account, now, admitted = FakeAccount(), 0.0, 0
    for gap in gaps:
        now += gap
        before = account.bans
        admitted += account.admit(now)
        if account.bans > before:
            ban = min(60.0 * 2.0**before, 86_400.0)
            assert account.banned_until == pytest.approx(now + ban)

    assert admitted <= 60 + now


def test_a_warm_up_wakes_a_cold_model(fake: FakeChutes) -> None:
    """The stream says cold, then hot; afterwards the model answers."""
    fake.models["gum/Gum-2-7B"].warms_in_s = 0.1
    key = {"authorization": f"Bearer {fake.key}"}
    cold = chat(fake, {**CHAT, "model": "gum/Gum-2-7B"}, **key)
    stream = ask(fake, "GET", "/_api/chutes/warmup/gum%2FGum-2-7B", **key)[2].decode()
    hot = chat(fake, {**CHAT, "model": "gum/Gum-2-7B"}, **key)

    assert (cold[0], hot[0]) == (503, 200)
    assert '"cold"' in stream
    assert stream.rstrip().endswith('instances available"}')


def test_a_stream_has_usage_in_every_chunk(fake: FakeChutes) -> None:
    """Chunks are events with usage and a verification mark; the last line is [DONE]."""
    _, _, body = chat(fake, {**CHAT, "stream": True}, authorization=f"Bearer {fake.key}")
    events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]

    assert events[-1] == "[DONE]"
    assert all("usage" in e and "chutes_verification" in e for e in map(json.loads, events[:-1]))


def test_a_client_that_leaves_is_seen(fake: FakeChutes) -> None:
    """A closed connection ends the work at once, and nothing is billed."""
    fake.models["acme/Alder-3-32B"].latency_s = 10.0
    raw = json.dumps(CHAT).encode()
    head = (
        f"POST /_llm/v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {fake.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    host, port = fake.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + raw)
        end = time.monotonic() + 3.0
        while not fake.models["acme/Alder-3-32B"].busy and time.monotonic() < end:
            time.sleep(0.01)
    while not fake.disconnects and time.monotonic() < end:
        time.sleep(0.01)

    assert fake.disconnects == ["acme/Alder-3-32B"]
    assert fake.account.billed == 0


def test_what_a_client_should_not_send_is_written_down(fake: FakeChutes) -> None:
    """SDK arguments, trace headers and bodies for private models are named, keys never are."""
    chat(
        fake,
        {**CHAT, "model": "someone/Private-1B", "api_base": fake.key},
        authorization=f"Bearer {fake.key}",
        x_chutes_trace="true",
    )

    assert set(fake.wrong) == {
        "sent x-chutes-trace",
        "sent api_base",
        "sent a body to a private model",
    }
    assert KEY.search(str(fake.seen)) is None


def test_a_program_that_fails_before_close_ends_at_once() -> None:
    """Connections that clients keep open do not keep a failed program alive."""
    script = (
        "import http.client\n"
        "from scillm_chutes.fake import FakeChutes\n"
        "fake = FakeChutes()\n"
        "fake.__enter__()\n"
        "kept = http.client.HTTPConnection(fake.url.removeprefix('http://'), timeout=5)\n"
        "kept.request('GET', '/_llm/v1/models')\n"
        "assert kept.getresponse().read()\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=20)

    assert done.returncode == 3


def test_a_fake_that_never_served_can_be_closed() -> None:
    """Closing waits for nobody when nothing was started."""
    fake = FakeChutes()
    fake.close()

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(fake.url.rpartition(":")[2])), 1.0)


def test_a_chute_has_a_host_of_its_own(fake: FakeChutes) -> None:
    """There the slug says which chute answers, whatever model the body names."""
    key = {"authorization": f"Bearer {fake.key}"}
    slug = fake.models["elm/Elm-8B"].slug
    by_path = ask(fake, "POST", f"/_slug/{slug}/v1/chat/completions", CHAT, **key)
    named = {**key, "Host": f"{slug}.chutes.ai"}
    by_name = ask(fake, "POST", "/v1/chat/completions", CHAT, **named)

    assert json.loads(by_path[2])["model"] == json.loads(by_name[2])["model"] == "elm/Elm-8B"


@pytest.mark.parametrize("host", ["embed", "image"])
def test_other_hosts_take_posts_only(fake: FakeChutes, host: str) -> None:
    """The list of models is at the hosts of language models alone."""
    assert ask(fake, "GET", f"/_{host}/v1/models")[0] == 404


@pytest.mark.parametrize("parts", [[{"type": "file"}], [{"type": "image_url"}] * 9])
def test_files_and_too_many_images_are_refused(fake: FakeChutes, parts: list[Any]) -> None:
    """Nine images or a file are a bad request."""
    body = {"model": "cedar/Cedar-4.6V", "messages": [{"role": "user", "content": parts}]}
    status, _, _ = chat(fake, body, authorization=f"Bearer {fake.key}")

    assert status == 400
    assert fake.served == []
