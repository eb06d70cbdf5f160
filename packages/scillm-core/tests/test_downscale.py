"""The image policy's mode downscale: images are made smaller until the request fits."""

from __future__ import annotations

import base64
import io
import random
import subprocess
import sys
import zlib

import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.routing.downscale import MOST_PIXELS, smaller
from scillm.routing.fitting import fitted
from scillm.routing.images import ImagePolicy, inline_images, shares
from support.faulty import FaultyServer

Image = pytest.importorskip("PIL.Image")


def noisy(width, height, mode="RGB"):
    """An image that does not compress: what it needs, it needs for its pixels."""
    return Image.frombytes(
        mode, (width, height), random.Random(7).randbytes(width * height * len(mode))
    )


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def url_of(data, kind="png"):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def message(*urls):
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": "look"}, *parts]}


sizes = st.lists(st.integers(0, 100), max_size=6)
bounds = st.none() | st.integers(0, 120)


@given(sizes, bounds, bounds)
def test_the_shares_of_all_images_keep_every_bound(sizes, each, total):
    """No share is larger than its image; the sum fits; nobody is cut while a larger one is not."""
    policy = ImagePolicy(max_each_bytes=each, max_total_bytes=total)
    given = shares(sizes, policy)
    after = [size if bound is None else bound for size, bound in zip(sizes, given, strict=True)]

    assert all(new <= size for new, size in zip(after, sizes, strict=True))
    assert each is None or all(new <= each for new in after)
    assert total is None or sum(after) <= total
    for size, bound in zip(sizes, given, strict=True):
        assert bound is None or (bound < size and bound == max(after))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.6, 0.1, 0.01])
def test_an_image_becomes_as_small_as_asked_and_keeps_its_format(format, share):
    """Its proportions stay, and it is a whole image of that format."""
    data = encoded(noisy(400, 200), format)
    before, after = smaller(data, int(len(data) * share), "image")

    assert len(after.data) <= len(data) * share
    with Image.open(io.BytesIO(after.data)) as opened:
        opened.load()
        assert opened.format == format
        assert opened.size == (after.width, after.height)
        assert opened.width == pytest.approx(2 * opened.height, abs=2)
    assert (before.width, before.height) == (400, 200)


def test_a_photo_loses_quality_before_it_loses_pixels():
    """A JPEG that only needs a little less keeps its size."""
    data = encoded(noisy(300, 300), "JPEG", quality=98)
    _, after = smaller(data, int(len(data) * 0.7), "image")

    assert (after.width, after.height) == (300, 300)


def test_transparency_stays():
    """A clear background does not turn black."""
    picture = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    picture.paste(noisy(150, 300), (0, 0))
    data = encoded(picture, "PNG")
    _, after = smaller(data, len(data) // 4, "image")

    with Image.open(io.BytesIO(after.data)) as opened:
        assert opened.mode == "RGBA"
        assert opened.getpixel((opened.width - 1, 0))[3] == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK"])
def test_every_kind_of_pixel_can_be_made_smaller(mode):
    """Palettes, greys, prints."""
    picture = noisy(200, 200)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(picture.convert(mode), kind)
    _, after = smaller(data, len(data) // 3, "image")

    assert len(after.data) <= len(data) // 3


def test_sixteen_bits_of_grey_become_eight():
    """A microscope's picture keeps its shades: half of 65,535 is half of 255."""
    noise = random.Random(7).randbytes(60_000)
    picture = Image.frombytes("I;16", (200, 200), noise + b"\x00\x80" * 10_000)
    data = encoded(picture, "PNG")
    _, after = smaller(data, len(data) // 2, "image")

    with Image.open(io.BytesIO(after.data)) as opened:
        assert opened.mode == "L"
        assert opened.getpixel((opened.width // 2, opened.height - 1)) == 128


def test_pixels_of_unknown_range_are_refused():
    """Which number is white, only their owner knows."""
    data = encoded(Image.new("F", (50, 50), 0.5), "TIFF")

    with pytest.raises(errors.ImageRejectedError, match="unknown range"):
        smaller(data, 100, "image")


def test_other_formats_become_png():
    """A bitmap of a scanner is sent as something services read."""
    data = encoded(Image.new("RGB", (300, 300), "red"), "BMP")
    before, after = smaller(data, 5000, "image")

    assert (before.format, after.format, after.mime) == ("BMP", "PNG", "image/png")
    assert (after.width, after.height) == (300, 300)


def test_a_turned_photo_is_turned_before_its_note_is_lost():
    """EXIF orientation 6 (a phone held upright): width and height change places."""
    picture = noisy(200, 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture, "JPEG", exif=exif)
    _, after = smaller(data, len(data) // 2, "image")

    assert after.height > after.width


def test_an_image_that_cannot_be_so_small_is_refused():
    """One pixel of PNG needs about 70 bytes."""
    with pytest.raises(errors.ImageRejectedError, match="cannot be made smaller than 20"):
        smaller(encoded(noisy(50, 50), "PNG"), 20, "image")


def test_a_moving_image_is_refused():
    """Three frames out of four are not dropped silently."""
    frames = [noisy(60, 60).rotate(90 * turn).convert("P") for turn in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

    with pytest.raises(errors.ImageRejectedError, match="3 frames"):
        smaller(data, 1000, "image")


def bomb(side):
    """A PNG that says it has side² pixels, in a few bytes (PNG specification, chunk IHDR)."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + check

    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_bomb_is_not_opened(side):
    """64, 144 and 3,600 million pixels in 60 bytes: refused by what the head says."""
    assert side**2 > MOST_PIXELS

    with pytest.raises(errors.ImageRejectedError, match="pixels"):
        smaller(bomb(side), 50, "image")


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"<svg/>"])
def test_what_is_no_image_is_refused(data):
    """It cannot be made smaller, and is not sent as it is."""
    with pytest.raises(errors.ImageRejectedError, match="cannot be read") as caught:
        smaller(data, 1, "image")

    assert "object at 0x" not in caught.value.message


def test_only_images_that_are_too_large_are_touched():
    """Small ones, remote ones, text, and the caller's own messages stay as they are."""
    small, large = encoded(noisy(10, 10), "PNG"), encoded(noisy(200, 200), "JPEG")
    remote = "https://elsewhere/x.png"
    asked = [
        message(url_of(small), remote, url_of(large, "jpeg")),
        {"role": "user", "content": "x"},
    ]
    policy = ImagePolicy(mode="downscale", max_each_bytes=5000, max_total_bytes=None)
    changed, done = fitted(asked, policy)

    before, after = asked[0]["content"], changed[0]["content"]
    assert after[:3] == before[:3]
    assert before[3]["image_url"]["url"] == url_of(large, "jpeg")
    assert after[3]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert after[3]["image_url"]["detail"] == "low"
    assert changed[1] == asked[1]
    assert [size <= 5000 for _, size in inline_images(changed)] == [True, True]
    assert [row["where"] for row in done] == ["messages[0].content[3]"]
    assert done[0]["before"] == {
        "format": "JPEG", "width": 200, "height": 200, "bytes": len(large),
    }  # fmt: skip


def test_too_many_images_are_refused_all_the_same():
    """A picture cannot be made smaller than nothing."""
    url = url_of(encoded(noisy(5, 5), "PNG"))
    policy = ImagePolicy(mode="downscale", max_count=1)

    with pytest.raises(errors.ImageRejectedError, match="image 2"):
        fitted([message(url, url)], policy)


def test_broken_base64_is_refused():
    """Before anything is sent."""
    policy = ImagePolicy(mode="downscale", max_each_bytes=1)

    with pytest.raises(errors.ImageRejectedError, match="base64"):
        fitted([message("data:image/png;base64,@@@@@@")], policy)


@pytest.mark.parametrize("stream", [False, True])
def test_the_router_sends_what_fits_and_says_what_it_did(stream):
    """The answer's meta names each image, before and after."""
    data = encoded(noisy(300, 300), "JPEG")
    policy = {"mode": "downscale", "max_each_bytes": 8000}
    with FaultyServer() as server, scillm.Router(image_policy=policy) as router:
        answer = router.completion(
            "openai/m", [message(url_of(data, "jpeg"))], api_base=server.base_url, stream=stream
        )
        if stream:
            for _ in answer:
                pass
            answer = answer.completion
        (sent,) = inline_images(server.requests[0].json["messages"])

    (told,) = answer.scillm_meta["images"]
    assert sent[1] == told["after"]["bytes"] <= 8000
    assert told["before"]["bytes"] == len(data)


def test_without_pillow_the_error_says_what_to_install():
    """Only when an image is too large; nothing is sent."""
    script = """
import sys
sys.modules["PIL"] = None
import scillm
url = "data:image/png;base64," + "A" * 4000
part = {"type": "image_url", "image_url": {"url": url}}
router = scillm.Router(image_policy={"mode": "downscale", "max_each_bytes": 100})
router.completion("echo/m", [{"role": "user", "content": "hi"}])
try:
    router.completion("echo/m", [{"role": "user", "content": [part]}])
except scillm.UsageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert "pip install 'scillm-core[images]'" in done.stdout
