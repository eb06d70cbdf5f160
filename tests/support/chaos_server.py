"""A chat server that misbehaves at random, for a process of its own: python chaos_server.py

Prints its port and serves until standard input ends. `/counts` says what it did, `/book` each
request in order, `/epoch` begins a new page of the book.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.behaviours import (
    Behaviour,
    Close,
    Html,
    Json,
    Pause,
    Raw,
    RefuseAfterAccept,
    ResetMidBody,
    Stall,
    Truncated,
    WrongLength,
)
from support.faulty import CHAT_PATH, FaultyServer
from support.strict_chat import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.http1 import Request

GOOD = "good"
SHARES = {
    "closed": 0.03,
    "reset": 0.03,
    "cut_json": 0.02,
    "wrong_length": 0.03,
    "stalled": 0.01,
    "html_502": 0.03,
    "html_200": 0.02,
    "refused_429": 0.05,
    "refused_503": 0.04,
}
"""What becomes of a request outside storms; the rest, three quarters, is answered."""
DAMAGED = frozenset({"reset", "cut_json", "wrong_length", "stalled"})
"""The model has worked, and the client cannot have its answer: billed, and lost."""
STORM_S = 0.4
STALL_S = 60.0
THINKS_S = 0.02
PAGE = "<html><body><h1>Please log in</h1></body></html>"


class Chaos:
    """A behaviour drawn for every request. Remembers each draw, and its own times.

    In storms, every `period_s` for `STORM_S`, nobody is answered: with 429 and 503 in turn.
    """

    def __init__(
        self, *, seed: int, share: float, period_s: float, refuse: Callable[[int], None]
    ) -> None:
        self._luck = Random(seed)
        self._refuse = refuse
        self._share = share
        self._period_s = period_s
        self._started = time.monotonic()
        self.epoch = 0
        self.book: list[tuple[int, str, str]] = []
        """Epoch, custom id and kind of each request."""

    def __call__(self, request: Request) -> Behaviour:
        """What becomes of a chat request."""
        kind, wait_s = self._drawn()
        self.book.append((self.epoch, name_of(request), kind))
        if kind == "closed":
            self._refuse(1)  # the connection that follows this one, too
        return self._behaviour(kind, request, wait_s)

    def counts(self, open_connections: int) -> dict[str, int]:
        """How often each kind was drawn, and connections open now."""
        return {**Counter(kind for _, _, kind in self.book), "open": open_connections}

    def _drawn(self) -> tuple[str, float]:
        turn, into_s = divmod(time.monotonic() - self._started, self._period_s)
        if into_s < STORM_S and turn > 0:
            return ("refused_429", "refused_503")[int(turn) % 2], STORM_S - into_s
        draw = self._luck.random() / self._share if self._share else 1.0
        for kind, share in SHARES.items():
            draw -= share
            if draw < 0:
                return kind, self._luck.uniform(0.02, 0.2)
        return GOOD, 0.0

    def _behaviour(self, kind: str, request: Request, wait_s: float) -> Behaviour:
        whole = answer(request)
        assert isinstance(whole, Json)
        body = json.dumps(whole.obj).encode()
        retry = {"retry-after-ms": f"{wait_s * 1000:.0f}"}
        busy = {"error": {"message": "slow down"}}
        kinds: dict[str, Behaviour] = {
            GOOD: Stall(self._luck.uniform(0.0, THINKS_S), whole),
            "closed": RefuseAfterAccept(),
            "reset": ResetMidBody(body, self._luck.randrange(1, len(body))),
            "cut_json": Truncated(whole.obj, self._luck.randrange(1, len(body))),
            "wrong_length": WrongLength(body[: self._luck.randrange(len(body))]),
            "stalled": Raw([b"HTTP/1.1 200 OK\r\ncontent-le", Pause(STALL_S), Close()]),
            "html_502": Html(),
            "html_200": Html(PAGE, status=200),
            "refused_429": Json(busy, 429, retry),
            "refused_503": Json(busy, 503, retry),
        }
        return kinds[kind]


def name_of(request: Request) -> str:
    """The custom id: the last word of the question."""
    return str(request.json["messages"][-1]["content"].rpartition(" ")[2])


def main() -> None:
    """Print the port, serve until standard input ends; fails when a behaviour has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of SHARES; 0: no faults")
    parser.add_argument("--period-s", type=float, default=4.0, help="from storm to storm")
    given = parser.parse_args()
    with FaultyServer() as server:
        chaos = Chaos(
            seed=given.seed,
            share=given.share,
            period_s=given.period_s,
            refuse=server.refuse_connections,
        )

        def next_epoch(_request: Request) -> Behaviour:
            chaos.epoch += 1
            return Json({"epoch": chaos.epoch})

        server.route(CHAT_PATH, chaos)
        server.route("/counts", lambda _request: Json(chaos.counts(server.open_connections)))
        server.route("/book", lambda _request: Json(chaos.book))
        server.route("/epoch", next_epoch)
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
