"""Server-sent events from bytes, split anywhere (WHATWG HTML standard, section 9.2.6).

Beyond the standard: a line that is bare JSON counts as an event, because some gateways report an
error in the middle of a stream that way.
"""

from __future__ import annotations

from attrs import frozen

from scillm.errors import MalformedReplyError

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""A larger event is refused: a server that never ends a line must not fill the memory."""

BOM = b"\xef\xbb\xbf"


@frozen(kw_only=True)
class ServerSentEvent:
    """One event. `bare` marks a line that was JSON without a field name."""

    data: str
    event: str = ""
    bare: bool = False


class SSEDecoder:
    """Turns byte pieces into events. Remembers the unfinished line and the unfinished event.

    Works on bytes until a line is whole, so a character split over two pieces stays intact.
    """

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []
        self._unfinished_size = 0
        self._ends_with_cr = False
        self._at_start = True
        self._data: list[str] = []
        self._data_size = 0
        self._event = ""

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Events completed by `piece`; `MalformedReplyError` when one grows too large."""
        if not piece:
            return []
        # CRLF may be split: an LF that starts this piece ends no second line.
        if self._ends_with_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._ends_with_cr = piece.endswith(b"\r") if piece else False
        lines = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events: list[ServerSentEvent] = []
        for line in lines[:-1]:
            self._unfinished.append(line)
            whole = b"".join(self._unfinished)
            self._unfinished, self._unfinished_size = [], 0
            events += self._line(whole)
        if lines[-1]:
            self._unfinished.append(lines[-1])
            self._unfinished_size += len(lines[-1])
        self._check_size()
        return events

    def finish(self) -> list[ServerSentEvent]:
        """Events left when the stream ends.

        The standard drops an event that no blank line ended; chat servers do end that way, so it
        is handed over, and the reader decides whether it is whole.
        """
        last = b"".join(self._unfinished)
        self._unfinished, self._unfinished_size = [], 0
        events = self._line(last) if last else []
        return events + self._dispatch()

    def _line(self, raw: bytes) -> list[ServerSentEvent]:
        if self._at_start:
            raw = raw.removeprefix(BOM)
            self._at_start = False
        if not raw:
            return self._dispatch()
        if raw[:1] in (b"{", b"["):
            bare = ServerSentEvent(data=raw.decode("utf-8", "replace"), bare=True)
            return [*self._dispatch(), bare]
        name, _, value = raw.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
            self._data_size += len(value)
        elif name == b"event":
            self._event = text
        # Comments (empty name), id, retry and unknown fields carry nothing for a chat stream.
        return []

    def _dispatch(self) -> list[ServerSentEvent]:
        data, event = self._data, self._event
        self._data, self._event, self._data_size = [], "", 0
        return [ServerSentEvent(data="\n".join(data), event=event)] if data else []

    def _check_size(self) -> None:
        if self._unfinished_size + self._data_size > MAX_EVENT_BYTES:
            raise MalformedReplyError(
                f"The stream sent an event larger than {MAX_EVENT_BYTES} bytes; it was given up."
            )
