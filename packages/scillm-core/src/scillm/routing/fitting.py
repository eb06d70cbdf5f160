"""Messages whose images fit the image policy, made smaller where they do not."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from attrs import evolve

from scillm.errors import ImageRejectedError
from scillm.routing.downscale import smaller
from scillm.routing.images import check_images, inline_images, is_base64, is_inline, shares, url_of

if TYPE_CHECKING:
    from scillm.records import Json, Message
    from scillm.routing.downscale import Picture
    from scillm.routing.images import ImagePolicy


def fitted(
    messages: Sequence[Message], policy: ImagePolicy
) -> tuple[Sequence[Message], list[dict[str, Json]]]:
    """The messages with images that keep the policy, and what was done to which.

    The caller's messages stay as they are. Takes as long as Pillow needs: call it in a thread.
    Raises `ImageRejectedError` when there are too many, or one cannot be made small enough.
    """
    check_images(messages, evolve(policy, mode="reject", max_each_bytes=None, max_total_bytes=None))
    sizes = [size for _, size in inline_images(messages)]
    bounds = iter(shares(sizes, policy))
    done: list[dict[str, Json]] = []
    changed = [_message(message, number, bounds, done) for number, message in enumerate(messages)]
    check_images(changed, evolve(policy, mode="reject"))
    return changed, done


def _message(
    message: Message, number: int, bounds: Iterator[int | None], done: list[dict[str, Json]]
) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = []
    for index, part in enumerate(content):
        url = url_of(part)
        if not is_inline(url):
            parts.append(part)
            continue
        most_bytes = next(bounds)
        where = f"messages[{number}].content[{index}]"
        parts.append(part if most_bytes is None else _part(part, url, most_bytes, where, done))
    return {**message, "content": parts}


def _part(
    part: Mapping[str, Json], url: str, most_bytes: int, where: str, done: list[dict[str, Json]]
) -> Json:
    before, after = smaller(_decoded(url, where), most_bytes, where)
    new_url = f"data:{after.mime};base64,{base64.b64encode(after.data).decode()}"
    done.append({"where": where, "before": _told(before), "after": _told(after)})
    image = part["image_url"]
    new = {**image, "url": new_url} if isinstance(image, Mapping) else new_url
    return {**part, "image_url": new}


def _told(picture: Picture) -> dict[str, Json]:
    return {
        "format": picture.format,
        "width": picture.width,
        "height": picture.height,
        "bytes": len(picture.data),
    }


def _decoded(url: str, where: str) -> bytes:
    head, _, body = url.partition(",")
    if not is_base64(head):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ImageRejectedError(f"{where} is not valid base64: {error}.") from error
