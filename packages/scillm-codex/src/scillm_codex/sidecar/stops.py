"""Stop texts: what may be shown of an answer that ends before the first of them."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Lets a text through up to the first stop text. Remembers what may still become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """What may be shown now; nothing after a hit."""
        if self.hit:
            return ""
        text = self._held + text
        places = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if places:
            self.hit, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        shown = text[: len(text) - keep]
        self._held = text[len(text) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that `stop` begins with, short of all of it."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
