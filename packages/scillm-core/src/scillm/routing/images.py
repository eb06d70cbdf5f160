"""The image policy: how many images a request may carry inside itself, and how large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.errors import ImageRejectedError, UsageError

if TYPE_CHECKING:
    from scillm.records import Json, Message

MODES = ("off", "reject", "downscale")
KNOWN = ("mode", "max_count", "max_each_bytes", "max_total_bytes")


@frozen(kw_only=True)
class ImagePolicy:
    """Bounds for images sent as data URLs; remote images have no size here. None is no bound."""

    mode: str = "reject"
    max_count: int | None = None
    max_each_bytes: int | None = 300_000
    max_total_bytes: int | None = 1_000_000


OFF = ImagePolicy(mode="off")


def read_image_policy(value: Mapping[str, Any] | None) -> ImagePolicy:
    """The policy in the Router's `image_policy`; `UsageError` names what cannot be used."""
    if value is None:
        return OFF
    if not isinstance(value, Mapping):
        raise UsageError(f"image_policy must be an object, but is a {type(value).__name__}.")
    unknown = sorted(set(value) - set(KNOWN))
    if unknown:
        raise UsageError(f"image_policy has {', '.join(unknown)}; it knows {', '.join(KNOWN)}.")
    mode = value.get("mode", "reject")
    if mode not in MODES:
        raise UsageError(f"image_policy.mode must be one of {', '.join(MODES)}, but is {mode!r}.")
    for name in KNOWN[1:]:
        bound = value.get(name)
        wrong = isinstance(bound, bool) or not isinstance(bound, int) or bound < 0
        if bound is not None and wrong:
            raise UsageError(f"image_policy.{name} must be 0 or more, but is {bound!r}.")
    return ImagePolicy(**value)


def check_images(messages: Sequence[Message], policy: ImagePolicy) -> None:
    """Raise `ImageRejectedError` for the first image that breaks `policy`.

    With mode downscale that is the business of `fitting.fitted`.
    """
    if policy.mode != "reject":
        return
    total = 0
    for count, (place, size) in enumerate(inline_images(messages), start=1):
        total += size
        if policy.max_count is not None and count > policy.max_count:
            raise ImageRejectedError(
                f"{place} is image {count} of the request; the image policy allows "
                f"{policy.max_count}. Send fewer, or raise max_count."
            )
        if policy.max_each_bytes is not None and size > policy.max_each_bytes:
            raise ImageRejectedError(
                f"{place} has {size} bytes; the image policy allows {policy.max_each_bytes} each. "
                "Make it smaller, or raise max_each_bytes."
            )
        if policy.max_total_bytes is not None and total > policy.max_total_bytes:
            raise ImageRejectedError(
                f"With {place} the images have {total} bytes; the image policy allows "
                f"{policy.max_total_bytes} together. Send less, or raise max_total_bytes."
            )


def shares(sizes: Sequence[int], policy: ImagePolicy) -> list[int | None]:
    """How many bytes each image may have so that all bounds hold; None may stay as it is.

    Where they are too much together, the largest are cut to one common size, the others stay.
    """
    each = policy.max_each_bytes
    cut = [size if each is None else min(size, each) for size in sizes]
    total = policy.max_total_bytes
    if total is not None and sum(cut) > total:
        level = _common_bound(cut, total)
        cut = [min(size, level) for size in cut]
    return [None if bound == size else bound for size, bound in zip(sizes, cut, strict=True)]


def _common_bound(sizes: Sequence[int], total: int) -> int:
    """The largest bound under which all of `sizes` together keep `total`."""
    # When the k smallest stay whole, the others share what is left; the best k gives the most.
    ordered = sorted(sizes)
    count = len(ordered)
    return max((total - sum(ordered[:k])) // (count - k) for k in range(count))


def inline_images(messages: Sequence[Message]) -> Iterator[tuple[str, int]]:
    """Where each data-URL image stands, and its decoded size in bytes."""
    for number, message in enumerate(messages):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            url = url_of(part)
            if is_inline(url):
                yield f"messages[{number}].content[{index}]", decoded_bytes(url)


def url_of(part: Json) -> str:
    """The URL of an image part; empty for other parts."""
    # OpenAI's chat form is {"image_url": {"url": …}}, its responses form {"image_url": …}.
    image = part.get("image_url") if isinstance(part, Mapping) else None
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else ""


def is_inline(url: str) -> bool:
    """Whether a URL holds an image itself; schemes and media types are written in any case."""
    return url[:10].lower() == "data:image"


def is_base64(head: str) -> bool:
    """Whether a data URL whose part before the comma is `head` holds base64."""
    return head.lower().endswith(";base64")


def decoded_bytes(url: str) -> int:
    """Size of what a data URL holds (RFC 2397), counted without decoding it."""
    head, _, body = url.partition(",")
    if not is_base64(head):
        return len(body) - 2 * body.count("%")
    text = body.rstrip("=")
    return len(text) * 3 // 4
