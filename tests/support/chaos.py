"""A chaotic chat server in a process of its own, and `scillm batch run` killed against it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from support.chaos_server import DAMAGED, GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from support.scillm_process import Installation

STOP_S = 10.0
POLL_S = 0.02
LEG_S = 240.0
QUICK_RETRIES = {
    "SCILLM_RETRY_BASE_S": "0.05",
    "SCILLM_RETRY_MAX_S": "0.5",
    "SCILLM_COOLDOWN_429_S": "0.2",
}
SPARE_FILES = 24
"""Standard streams, journal, lock, event loop, input; the rest of a client's files are sockets."""


class ChaosServer:
    """The server process. Remembers how to ask it what it did."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._line = HTTPConnection("127.0.0.1", port, timeout=STOP_S)
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def counts(self) -> Counter[str]:
        """Requests by kind, and `open` connections other than this one."""
        counts = Counter[str](self._asked("/counts"))
        counts["open"] -= 1
        return counts

    def book(self) -> list[tuple[int, str, str]]:
        """Epoch, custom id and kind of every request, in order."""
        return [(epoch, name, kind) for epoch, name, kind in self._asked("/book")]

    def next_epoch(self) -> int:
        """Begin a new page; its number."""
        return int(self._asked("/epoch")["epoch"])

    def wait_until_left(self) -> None:
        """Return when no client is connected; `TimeoutError` when one stays."""
        end = time.monotonic() + STOP_S
        while (still := self.counts()["open"]) > 0:
            if time.monotonic() > end:
                raise TimeoutError(f"{still} connections are still open after {STOP_S} s.")
            time.sleep(POLL_S)

    def close(self) -> None:
        """End the server; `RuntimeError` when one of its behaviours failed."""
        self._line.close()
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its code says how
            self._process.communicate(timeout=STOP_S)
        if self._process.returncode:
            raise RuntimeError(f"The chaos server ended with {self._process.returncode}.")

    def _asked(self, path: str) -> Any:
        self._line.request("GET", path)
        return json.loads(self._line.getresponse().read())


@contextlib.contextmanager
def chaos_server(*, seed: int, share: float = 1.0, period_s: float = 4.0) -> Iterator[ChaosServer]:
    """A server whose faults come as `seed` says; see `support.chaos_server`."""
    script = Path(__file__).with_name("chaos_server.py")
    options = {"--seed": seed, "--share": share, "--period-s": period_s}
    words = [word for pair in options.items() for word in map(str, pair)]
    process = subprocess.Popen(
        [sys.executable, str(script), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        server = ChaosServer(process, int(process.stdout.readline()))
        yield server
        server.close()
    finally:
        process.kill()
        process.communicate()


# -- a batch against it ----------------------------------------------------------------------------


def write_requests(path: Path, count: int) -> None:
    """An input of `count` requests, r0 and so on."""
    with path.open("w", encoding="utf-8") as lines:
        for name in names(count):
            messages = [{"role": "user", "content": f"say {name}"}]
            body = {"model": "m", "messages": messages, "max_tokens": 8}
            row = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(row) + "\n")


def names(count: int) -> list[str]:
    """The custom ids."""
    return [f"r{number}" for number in range(count)]


@frozen(kw_only=True)
class Leg:
    """One run of the batch, from its start to its end or its kill."""

    epoch: int
    is_killed: bool
    code: int
    said: str
    most_files: int
    """Open files, sockets among them, at most while it was looked at."""
    memory_kib: Sequence[int]
    """Resident memory each time it was looked at, first moments left out."""


@define(kw_only=True)
class Batch:
    """A batch over several legs. Remembers them."""

    here: Installation
    server: ChaosServer
    width: int
    options: Sequence[str] = ()
    legs: list[Leg] = field(factory=list)

    @property
    def paths(self) -> tuple[Path, Path]:
        """Input and output."""
        return self.here.folder / "in.jsonl", self.here.folder / "out.jsonl"

    @property
    def kills(self) -> int:
        """Legs that were killed."""
        return sum(leg.is_killed for leg in self.legs)

    def fly(self, *, kill_after: int | None = None, then_s: float = 0.0) -> Leg:
        """One leg; killed with SIGKILL `then_s` after so many good answers of it have left."""
        epoch = self.server.next_epoch()
        before = self.server.counts()[GOOD]
        args = ["batch", "run", *map(str, self.paths), "--api-base", self.server.base_url]
        args += ["--concurrency", str(self.width), "--timeout", "3", "--retry-failed"]
        process = subprocess.Popen(
            self.here.command(*args, *self.options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=self.here.environ(QUICK_RETRIES),
        )
        is_killed, most_files, memory = False, 0, []
        try:
            end = time.monotonic() + LEG_S
            while process.poll() is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"A leg of the batch took longer than {LEG_S} s.")
                time.sleep(POLL_S)
                good = self.server.counts()[GOOD] - before
                files, resident = looked_at(process.pid)
                most_files = max(most_files, files)
                memory += [resident] if resident and good > self.width else []
                if kill_after is not None and good >= kill_after:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(then_s)
                    is_killed = process.poll() is None
                    process.send_signal(signal.SIGKILL)
                    break
        finally:
            process.kill()
            said, _ = process.communicate()
        self.server.wait_until_left()
        leg = Leg(
            epoch=epoch,
            is_killed=is_killed,
            code=process.returncode,
            said=said,
            most_files=most_files,
            memory_kib=memory,
        )
        self.legs.append(leg)
        return leg

    def fly_and_kill(self, luck: Random, *, kills: int, good: tuple[int, int]) -> None:
        """Legs that are killed at random moments, some good answers after their start."""
        for _ in range(kills):
            self.fly(kill_after=luck.randint(*good), then_s=luck.uniform(0.0, 0.2))

    def fly_to_the_end(self, most: int = 12) -> None:
        """Legs until every request is answered: malformed replies are asked again by the next."""
        for _ in range(most):
            if self.fly().code == 0:
                return
        raise AssertionError(f"Not whole after {most} legs: {self.legs[-1].said}")

    def output(self) -> list[dict[str, Any]]:
        """The lines of the output."""
        return [json.loads(line) for line in self.paths[1].read_bytes().splitlines()]

    def journal(self) -> list[dict[str, Any]]:
        """The data of the journal's whole lines."""
        lines = Path(f"{self.paths[1]}.journal").read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["data"] for line in lines]


def looked_at(pid: int) -> tuple[int, int]:
    """Open files and resident KiB of a process; zeros when it has just ended."""
    try:
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    resident = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return files, int(resident[0]) if resident else 0


def billed(book: Sequence[tuple[int, str, str]]) -> tuple[Counter[str], int]:
    """Good answers by custom id, and the number of answers that were lost on the way."""
    good = Counter(name for _, name, kind in book if kind == GOOD)
    return good, sum(kind in DAMAGED for _, _, kind in book)
