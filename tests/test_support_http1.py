"""What the test server takes for HTTP/1.1, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import Close, Pause, Reply, Stall, spread
from support.http1 import BadRequest, Request, chunk, take_request

BODIES = st.binary(max_size=200)
REQUEST = Request(method="GET", target="/")


def raw_request(body: bytes, *, chunk_size: int | None) -> bytes:
    head = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\n"
    if chunk_size is None:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    parts = [chunk(body[i : i + chunk_size]) for i in range(0, len(body), chunk_size)]
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + chunk(b"")


@given(body=BODIES, chunk_size=st.none() | st.integers(1, 50), data=st.data())
def test_a_request_is_taken_when_its_last_byte_is_there_and_no_byte_earlier(
    body: bytes, chunk_size: int | None, data: st.DataObject
) -> None:
    """However a request is cut, it arrives once, whole, and leaves its successor alone."""
    raw = raw_request(body, chunk_size=chunk_size)
    cut = data.draw(st.integers(0, len(raw) - 1))

    assert take_request(raw[:cut]) is None
    taken = take_request(raw + b"GET /next")
    assert taken is not None
    request, size = taken
    assert (request.body, size, request.path) == (body, len(raw), "/v1/x")


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/2\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad name: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(raw: bytes) -> None:
    """A client that writes bad HTTP is told so."""
    with pytest.raises(BadRequest):
        take_request(raw)


@given(pieces=st.lists(BODIES, max_size=8), size=st.integers(1, 9))
def test_cutting_a_body_loses_nothing(pieces: list[bytes], size: int) -> None:
    """Whatever the cut, the pieces join to the body."""
    body = b"".join(pieces)

    assert b"".join(step for step in spread(body, size) if isinstance(step, bytes)) == body


@given(body=st.binary(min_size=1, max_size=50), data=st.data())
def test_a_stall_falls_exactly_where_it_was_asked_for(body: bytes, data: st.DataObject) -> None:
    """A stall inside a body comes after so many bytes of it, and nothing is lost."""
    after = data.draw(st.integers(0, len(body)))

    steps = list(Stall(1.0, Reply(body=body), after_bytes=after).steps(REQUEST))[1:]

    place = steps.index(Pause(1.0))
    assert b"".join(step for step in steps[:place] if isinstance(step, bytes)) == body[:after]
    assert b"".join(step for step in steps if isinstance(step, bytes)) == body


def test_a_chunked_body_that_breaks_off_has_no_end() -> None:
    """A broken chunked reply never looks complete."""
    steps = Reply(body=[b"abc", Close()], framing="chunked").steps(REQUEST)

    assert list(steps[1:]) == [b"3\r\nabc\r\n", Close()]
