"""Transports that record HTTP exchanges into a file, and that answer from such a file alone."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from scillm import errors
from scillm.errors import APITimeoutError, CassetteError, ProviderError
from scillm.protocols import Closes
from scillm.records import HttpCall, HttpReply, HttpStream
from scillm.runs.cassette_rows import (
    Row,
    head_line,
    kept_headers,
    key_of,
    line_of,
    masked,
    masked_pieces,
    request_of,
    rows_of,
    secrets_of,
    unrecorded,
)

if TYPE_CHECKING:
    from scillm.protocols import Transport
    from scillm.records import Json


class RecordingTransport:
    """Passes every call on to `inner` and writes what came of it, one line per exchange.

    Remembers how often each request was asked. A call that is cancelled before its reply is not
    recorded. A file that exists is refused unless `overwrite`; `finish` closes it.
    """

    def __init__(self, inner: Transport, path: str | Path, *, overwrite: bool = False) -> None:
        self._inner = inner
        self._path = Path(path)
        self._lock = threading.Lock()
        self._broken = ""
        self._asked: Counter[str] = Counter()
        try:
            self._file = self._path.open("w" if overwrite else "x", encoding="utf-8")
        except FileExistsError:
            raise CassetteError(
                f"{self._path} exists. Replay it, delete it, or record with overwrite=True."
            ) from None
        except OSError as error:
            raise CassetteError(f"{self._path} cannot be written: {error}.") from error
        self._write(head_line())

    async def send(self, call: HttpCall, /) -> HttpReply:
        """The reply of `inner`, recorded; its errors too."""
        notes = self._begun(call)
        try:
            reply = await self._inner.send(call)
        except ProviderError as error:
            notes.failed(error)
            self._keep(notes)
            raise
        notes.head(reply.status, reply.headers)
        notes.pieces.append(reply.body)
        notes.end = "whole"
        self._keep(notes)
        return reply

    @asynccontextmanager
    async def stream(self, call: HttpCall, /) -> AsyncIterator[HttpStream]:
        """The stream of `inner`, recorded piece by piece up to where it was left."""
        notes = self._begun(call)
        try:
            async with self._inner.stream(call) as head:
                notes.head(head.status, head.headers)
                yield HttpStream(
                    status=head.status, headers=head.headers, chunks=_Noting(head.chunks, notes)
                )
        except ProviderError as error:
            if notes.status is None:
                notes.failed(error)
            raise
        finally:
            if notes.status is not None or notes.error is not None:
                self._keep(notes)

    async def aclose(self) -> None:
        """Close what `inner` keeps open; the recording goes on."""
        if isinstance(self._inner, Closes):
            await self._inner.aclose()

    def finish(self) -> None:
        """End the recording; a second call does nothing."""
        with self._lock:
            self._file.close()

    def _begun(self, call: HttpCall) -> _Notes:
        request = request_of(call)
        key = key_of(request)
        with self._lock:
            nth = self._asked[key]
            self._asked[key] += 1
        return _Notes(request, nth, secrets_of(call.headers, call.url))

    def _keep(self, notes: _Notes) -> None:
        self._write(line_of(notes.row()))

    def _write(self, line: str) -> None:
        with self._lock:
            if self._broken:
                raise CassetteError(self._broken)
            if self._file.closed:
                raise CassetteError(
                    f"The recording of {self._path} has ended, but an exchange was still going on; "
                    "wait for all calls within `with scillm.record(…)`."
                )
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                self._broken = (
                    f"{self._path} could not be written: {error.strerror}. The recording is not "
                    "whole; make room, or whatever is missing, and record anew."
                )
                with suppress(OSError):  # what it could not write, it tries to write once more
                    self._file.close()
                raise CassetteError(self._broken) from error


class _Notes:
    """What is known of one exchange so far."""

    def __init__(self, request: Mapping[str, Json], nth: int, secrets: tuple[bytes, ...]) -> None:
        self.request = request
        self.nth = nth
        self.secrets = secrets
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []
        self.end = "left"
        self.error: tuple[str, str] | None = None

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = kept_headers(headers, self.secrets)

    def failed(self, error: ProviderError) -> None:
        self.end = "failed"
        message = masked(error.message.encode("utf-8", "replace"), self.secrets).decode()
        self.error = (type(error).__name__, message)

    def row(self) -> Row:
        return Row(
            request=self.request,
            nth=self.nth,
            status=self.status,
            headers=self.headers,
            pieces=masked_pieces(self.pieces, self.secrets),
            end=self.end,
            error=self.error,
        )


class _Noting:
    """A body that is written down while it is read."""

    def __init__(self, chunks: AsyncIterator[bytes], notes: _Notes) -> None:
        self._chunks = chunks
        self._notes = notes

    def __aiter__(self) -> _Noting:
        return self

    async def __anext__(self) -> bytes:
        notes = self._notes
        notes.end = "silent"  # what it stays if the caller is cancelled while waiting
        try:
            piece = await anext(self._chunks)
        except StopAsyncIteration:
            notes.end = "whole"
            raise
        except ProviderError as error:
            notes.failed(error)
            raise
        notes.end = "left"
        notes.pieces.append(piece)
        return piece


class ReplayTransport:
    """Answers from a cassette, without a network. Remembers which replies were given.

    Equal requests get their replies in the order in which they were asked. A request that was not
    recorded, or more often than it was recorded, is a `CassetteError`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            with self._path.open(encoding="utf-8") as file:
                self._rows = rows_of(file, where=str(self._path))
        except (OSError, UnicodeDecodeError) as error:
            raise CassetteError(
                f"{self._path} cannot be read as a cassette: {error}. Make one with "
                "`with scillm.record(path) as router`."
            ) from error
        self._lock = threading.Lock()
        self._left: defaultdict[str, list[Row]] = defaultdict(list)
        for row in sorted(self._rows, key=lambda row: row.nth, reverse=True):
            self._left[row.key].append(row)

    async def send(self, call: HttpCall, /) -> HttpReply:
        """The recorded reply, or the recorded error."""
        await anyio.lowlevel.checkpoint()
        row = self._next(call)
        status = _status(row)
        chunks = _Replayed(row, call, str(self._path))
        body = b"".join([piece async for piece in chunks])
        return HttpReply(status=status, headers=row.headers, body=body)

    @asynccontextmanager
    async def stream(self, call: HttpCall, /) -> AsyncIterator[HttpStream]:
        """The recorded reply, in the pieces in which it came."""
        await anyio.lowlevel.checkpoint()
        row = self._next(call)
        chunks = _Replayed(row, call, str(self._path))
        yield HttpStream(status=_status(row), headers=row.headers, chunks=chunks)

    def unused(self) -> list[Row]:
        """Recorded exchanges that were not asked for, in the order of the file."""
        with self._lock:
            left = {id(row) for rows in self._left.values() for row in rows}
        return [row for row in self._rows if id(row) in left]

    def _next(self, call: HttpCall) -> Row:
        request = request_of(call)
        with self._lock:
            rows = self._left[key_of(request)]
            if rows:
                return rows.pop()
        raise unrecorded(request, self._rows, where=str(self._path))


def _status(row: Row) -> int:
    if row.status is None:
        raise _recorded_error(row)
    return row.status


class _Replayed:
    """A recorded body, piece by piece. Remembers how far it was read."""

    def __init__(self, row: Row, call: HttpCall, where: str) -> None:
        self._row = row
        self._call = call
        self._where = where
        self._place = 0

    def __aiter__(self) -> _Replayed:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        row = self._row
        if self._place < len(row.pieces):
            self._place += 1
            return row.pieces[self._place - 1]
        if row.end == "whole":
            raise StopAsyncIteration
        if row.end == "failed":
            raise _recorded_error(row)
        if row.end == "silent":
            # The caller gave up waiting here; whoever waits now waits as long.
            await anyio.sleep(self._call.timeout_s)
            raise APITimeoutError(
                f"In {self._where} this stream fell silent here: nothing for "
                f"{self._call.timeout_s:g} s."
            )
        raise CassetteError(
            f"In {self._where} the caller left this stream after {self._place} pieces; what came "
            "later was never recorded. Record anew."
        )


def _recorded_error(row: Row) -> ProviderError:
    name, message = row.error or ("", "")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
        raise CassetteError(f"The cassette names the error {name!r}, which this version lacks.")
    return kind(message)
