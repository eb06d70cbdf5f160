"""The first part of what a program prints, and whether it printed more than it may."""

from __future__ import annotations

from attrs import define, field

KEPT_BYTES = 4096


@define(kw_only=True)
class Head:
    """Takes chunks and remembers the first KEPT_BYTES and how many came."""

    name: str
    most_bytes: int
    kept: bytearray = field(factory=bytearray)
    seen_bytes: int = 0

    def take(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        self.kept += chunk[: KEPT_BYTES - len(self.kept)]
        self.seen_bytes += len(chunk)

    @property
    def overflowed(self) -> bool:
        """Whether more came than may."""
        return self.seen_bytes > self.most_bytes

    def text(self) -> str:
        """What was kept, and a last line that says so when it is not all."""
        text = self.kept.decode("utf-8", "replace")
        if self.seen_bytes <= len(self.kept):
            return text
        return f"{text}\n[cut after {len(self.kept)} of at least {self.seen_bytes} bytes]"
