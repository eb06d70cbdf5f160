"""Load: what each deployment of a Router is doing. A decision machine; every method takes `now`.

All numbers are kept in lists by the deployment's position, so that choosing among a thousand costs
a few microseconds; what a minute or a ttl ends is swept when it ends.
"""

from __future__ import annotations

ALPHA = 0.3
"""Share of the newest latency in the moving average."""
TIMEOUT_COUNTS_S = 1000.0
"""Latency a timeout counts as, so that a deployment that hangs is asked last."""
LATENCY_TTL_S = 3600.0
"""After this long without an answer a measured latency is forgotten."""
MINUTE_S = 60.0


class Load:
    """Calls in flight, latencies and usage per minute, by the deployment's position."""

    def __init__(self, size: int, *, latency_ttl_s: float = LATENCY_TTL_S) -> None:
        self.in_flight = [0] * size
        self.latency_s = [0.0] * size
        self.first_chunk_s = [0.0] * size
        self.requests = [0] * size
        self.tokens = [0] * size
        self.used = [0] * size
        self._measured_at = [0.0] * size
        self._ttl_s = latency_ttl_s
        self._next_forgetting = float("inf")
        self._minute_ends = 0.0
        self._next_sweep = 0.0

    def anew(self, size: int) -> Load:
        """An empty one for other deployments, with the same ttl."""
        return Load(size, latency_ttl_s=self._ttl_s)

    def began(self, position: int, now: float) -> None:
        """A request leaves."""
        self.sweep(now)
        self.in_flight[position] += 1
        self.requests[position] += 1
        self.used[position] += 1

    def ended(self, position: int) -> None:
        """A request is answered, failed or was given up; never below 0."""
        self.in_flight[position] = max(0, self.in_flight[position] - 1)

    def answered(
        self,
        position: int,
        now: float,
        elapsed_s: float,
        *,
        tokens: int = 0,
        streamed: bool = False,
    ) -> None:
        """Take the time of an answer (for a stream, to its first chunk) into the average.

        With usage it is the time per token, which makes answers of different lengths comparable.
        """
        self.sweep(now)
        self.tokens[position] += tokens
        self.used[position] += tokens
        averages = self.first_chunk_s if streamed else self.latency_s
        value = elapsed_s / tokens if tokens > 0 and not streamed else elapsed_s
        before = averages[position]
        averages[position] = ALPHA * value + (1.0 - ALPHA) * before if before > 0.0 else value
        self._measured_at[position] = now
        if now + self._ttl_s < self._next_forgetting:
            self._next_forgetting = now + self._ttl_s
            self._next_sweep = min(self._next_sweep, self._next_forgetting)

    def timed_out(self, position: int, now: float) -> None:
        """A timeout counts as a very long answer."""
        for streamed in (False, True):
            self.answered(position, now, TIMEOUT_COUNTS_S, streamed=streamed)

    def over_limit(
        self, position: int, now: float, *, rpm: float | None, tpm: float | None
    ) -> bool:
        """Whether this minute's requests or tokens are used up."""
        self.sweep(now)
        return (rpm is not None and self.requests[position] >= rpm) or (
            tpm is not None and self.tokens[position] >= tpm
        )

    def metric(self, strategy: str, *, streamed: bool) -> list[int] | list[float]:
        """The list a strategy looks at, lower is better; not measured counts as 0."""
        if strategy == "least-busy":
            return self.in_flight
        if strategy == "usage-based-routing":
            return self.used
        return self.first_chunk_s if streamed else self.latency_s

    def sweep(self, now: float) -> None:
        """Forget the last minute's usage, and latencies older than the ttl."""
        if now < self._next_sweep:
            return
        if now >= self._minute_ends:
            self._minute_ends = (now // MINUTE_S + 1.0) * MINUTE_S
            for numbers in (self.requests, self.tokens, self.used):
                numbers[:] = [0] * len(numbers)
        if now >= self._next_forgetting:
            self._forget_latencies(now - self._ttl_s)
        self._next_sweep = min(self._minute_ends, self._next_forgetting)

    def _forget_latencies(self, oldest: float) -> None:
        kept = []
        for position, moment in enumerate(self._measured_at):
            if moment > oldest:
                kept.append(moment)
            else:
                self.latency_s[position] = self.first_chunk_s[position] = 0.0
        self._next_forgetting = min(kept, default=float("inf")) + self._ttl_s
