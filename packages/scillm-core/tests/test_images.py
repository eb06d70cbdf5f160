"""The image policy: a request with too many or too large images is refused before it is sent."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.routing.images import (
    OFF,
    ImagePolicy,
    check_images,
    decoded_bytes,
    inline_images,
    read_image_policy,
)


def url_of(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


def message(*sizes):
    parts = [{"type": "image_url", "image_url": {"url": url_of(b"x" * n)}} for n in sizes]
    return {"role": "user", "content": [{"type": "text", "text": "look"}, *parts]}


@given(st.binary(max_size=300))
def test_sizes_are_those_of_the_decoded_image(data):
    """base64 and percent-encoded data URLs are measured in the bytes they stand for."""
    assert decoded_bytes(url_of(data)) == len(data)
    assert decoded_bytes("data:image/svg+xml," + quote(data)) == len(data)


@pytest.mark.parametrize("head", ["DATA:image/png;base64", "data:Image/PNG;BASE64"])
def test_the_case_of_a_data_url_hides_no_image(head):
    """Schemes and media types are written in any case (RFC 3986, 3.1; RFC 6838, 4.2)."""
    url = f"{head},{base64.b64encode(b'x' * 90).decode()}"
    asked = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    assert list(inline_images(asked)) == [("messages[0].content[0]", 90)]


@given(
    st.lists(st.integers(0, 50), max_size=6),
    st.integers(0, 6),
    st.integers(0, 50),
    st.integers(0, 150),
)
def test_a_request_passes_exactly_when_it_keeps_every_bound(sizes, count, each, total):
    """Count, single size and total size are all held."""
    policy = ImagePolicy(max_count=count, max_each_bytes=each, max_total_bytes=total)
    fits = len(sizes) <= count and all(n <= each for n in sizes) and sum(sizes) <= total

    if fits:
        check_images([message(*sizes)], policy)
        return
    with pytest.raises(errors.ImageRejectedError, match=r"messages\[0\]\.content\["):
        check_images([message(*sizes)], policy)


def test_only_images_inside_the_request_count():
    """Remote images, other parts and plain text have no size here; both spellings are found."""
    content = [
        {"type": "image_url", "image_url": {"url": "https://elsewhere/x.png"}},
        {"type": "input_image", "image_url": url_of(b"abc")},
        {"type": "input_audio", "input_audio": {}},
        "odd",
    ]

    found = list(inline_images([{"role": "user", "content": content}, {"content": "text"}]))

    assert found == [("messages[0].content[1]", 3)]


def test_off_and_unbounded_policies_let_everything_pass():
    """None is no bound; off looks at nothing."""
    big = [message(2_000_000)]
    check_images(big, OFF)
    check_images(big, ImagePolicy(max_each_bytes=None, max_total_bytes=None))

    assert read_image_policy(None) == OFF
    with pytest.raises(errors.ImageRejectedError):
        check_images(big, read_image_policy({}))


@pytest.mark.parametrize(
    "policy", ["x", {"mode": "shrink"}, {"max_each": 3}, {"max_count": -1}, {"max_count": True}]
)
def test_a_policy_that_cannot_be_kept_is_refused(policy):
    """Unknown modes and bounds are named when the Router is made."""
    with pytest.raises(errors.UsageError, match="image_policy"):
        scillm.Router(image_policy=policy)


def test_the_router_sends_nothing_that_breaks_it(faulty_server):
    """The policy really rejects, sync and streaming."""
    with scillm.Router(image_policy={"max_each_bytes": 10}) as router:
        for stream in (False, True):
            with pytest.raises(errors.ImageRejectedError, match="11 bytes"):
                router.completion(
                    "openai/m", [message(11)], api_base=faulty_server.base_url, stream=stream
                )

        assert router.completion("openai/m", [message(10)], api_base=faulty_server.base_url).choices

    assert len(faulty_server.requests) == 1
