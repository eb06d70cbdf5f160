"""Making an image small enough (Pillow's door, extra `images`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.errors import ImageRejectedError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 50_000_000
"""Larger images are refused unopened: a small file can unfold into more memory than there is."""
LOSSY = {"JPEG": (85, 75), "WEBP": (85, 75)}
"""Formats with a quality, and the qualities that are tried before the image itself is shrunk."""
KEPT = ("JPEG", "WEBP", "PNG")
"""Other formats become PNG."""
TRIES = 12
SLACK = 0.95


@frozen(kw_only=True)
class Picture:
    """An encoded image. `frames` is 1 unless it moves."""

    data: bytes
    format: str
    width: int
    height: int
    frames: int = 1

    @property
    def mime(self) -> str:
        """Its media type."""
        return f"image/{self.format.lower()}"


def smaller(data: bytes, most_bytes: int, where: str) -> tuple[Picture, Picture]:
    """The image as it was, and one of at most `most_bytes`.

    JPEG, WebP and PNG stay what they are, everything else becomes PNG; transparency stays, other
    metadata goes, a turned photo is turned. Raises `ImageRejectedError` for what is no image, has
    too many pixels, moves, or cannot be made so small.
    """
    image, before = _opened(data, where)
    if before.frames > 1:
        raise ImageRejectedError(
            f"{where} has {before.frames} frames; making it smaller would keep one. Send the "
            "frames that matter, or make it smaller yourself."
        )
    kept = before.format if before.format in KEPT else "PNG"
    scale, made = 1.0, data
    for _ in range(TRIES):
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        resized = image if scale == 1.0 else image.resize(size, _lanczos())
        for quality in LOSSY.get(kept, (None,)):
            made = _encoded(resized, kept, quality)
            if len(made) <= most_bytes:
                return before, Picture(
                    data=made, format=kept, width=resized.width, height=resized.height
                )
        if size == (1, 1):
            break
        scale *= min(0.9, SLACK * (most_bytes / len(made)) ** 0.5)
    raise ImageRejectedError(
        f"{where} has {len(data)} bytes and cannot be made smaller than {most_bytes}. Send a "
        "smaller image, or raise the bounds of the image policy."
    )


def _opened(data: bytes, where: str) -> tuple[Image, Picture]:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise UsageError(
            "image_policy mode downscale needs Pillow: pip install 'scillm-core[images]'. Or use "
            "mode reject."
        ) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data)) as found:
            if found.width * found.height > MOST_PIXELS:
                raise _too_many_pixels(where, f"{found.width} by {found.height}")
            # A phone's MPO is a JPEG with a preview behind it.
            is_photo = found.format in ("JPEG", "MPO")
            before = Picture(
                data=data,
                format="JPEG" if is_photo else found.format or "",
                width=found.width,
                height=found.height,
                frames=1 if is_photo else getattr(found, "n_frames", 1),
            )
            turned = ImageOps.exif_transpose(found)
            return _plain(turned, before.format), before
    except bombs as error:
        raise _too_many_pixels(where, "more") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow names the object it was given, by its address in memory.
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = "it has no known image format" if is_unknown else str(error)
        raise ImageRejectedError(
            f"{where} cannot be read as an image, so it cannot be made smaller: {why}."
        ) from error


def _too_many_pixels(where: str, size: str) -> ImageRejectedError:
    return ImageRejectedError(
        f"{where} has {size} pixels; at most {MOST_PIXELS} are opened. Make it smaller yourself."
    )


def _plain(image: Image, format: str) -> Image:
    """Pixels that can be resized smoothly and written in the kept format."""
    is_clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if format == "JPEG":
        return image.convert("L" if image.mode == "L" else "RGB")
    if is_clear:
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        # 16 bits of grey; converted as they are, all but the darkest would turn white.
        return image.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
    if image.mode == "F":
        raise ValueError("its pixels are numbers of unknown range")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encoded(image: Image, format: str, quality: int | None) -> bytes:
    options: dict[str, Any] = {"optimize": True} if format != "WEBP" else {"method": 4}
    if quality is not None:
        options["quality"] = quality
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def _lanczos() -> Any:
    from PIL.Image import Resampling

    return Resampling.LANCZOS
