"""What our own calls met at each model, which the feed learns half an hour later."""

from __future__ import annotations

from math import inf

from attrs import define, field

from scillm_chutes.ranking import Seen

HALF_LIFE_S = 300.0
"""After so long a refusal counts half."""
WEIGHT = 0.3
"""Share of the newest call in the moving average."""
LONGEST_REST_S = 60.0
"""The longest rest of a model that refuses again and again but is not switched off."""
LESS_THAN_NOTHING = 1e-3


@define
class _Record:
    refused: float = 0.0
    at: float = -inf
    rest_until: float = -inf
    streak: int = 0
    reason: str = ""


@define
class Memory:
    """Refusals and rests by model. A decision machine; every method takes `now`."""

    records: dict[str, _Record] = field(factory=dict)

    def answered(self, model: str, now: float) -> None:
        """The model answered."""
        record = self.records.get(model)
        if record is None:
            return
        record.refused = self._faded(record, now) * (1.0 - WEIGHT)
        record.at, record.streak, record.rest_until = now, 0, -inf
        if record.refused < LESS_THAN_NOTHING:
            del self.records[model]

    def refused(self, model: str, now: float, *, rest_s: float, reason: str) -> float:
        """The model refused; returns how long it rests. The rest doubles while refusals go on."""
        record = self.records.setdefault(model, _Record())
        record.refused = self._faded(record, now) * (1.0 - WEIGHT) + WEIGHT
        # Calls that were on their way when the rest began tell nothing new.
        if now >= record.rest_until:
            record.streak += 1
            doubled = min(rest_s * 2.0 ** min(record.streak - 1, 20), LONGEST_REST_S)
            record.rest_until = now + max(rest_s, doubled)
        record.at, record.reason = now, reason
        return self.rest_s(model, now)

    def rest_s(self, model: str, now: float) -> float:
        """Seconds until the model may be asked again; 0 for now."""
        record = self.records.get(model)
        return 0.0 if record is None else max(0.0, record.rest_until - now)

    def reason(self, model: str) -> str:
        """Why it rests."""
        record = self.records.get(model)
        return "" if record is None else record.reason

    def wake(self, model: str) -> None:
        """End the model's rest: it was warmed up."""
        if model in self.records:
            self.records[model].rest_until = -inf

    def seen(self, now: float) -> dict[str, Seen]:
        """What ranking may know."""
        return {
            model: Seen(refused=self._faded(record, now), rest_s=self.rest_s(model, now))
            for model, record in self.records.items()
        }

    def _faded(self, record: _Record, now: float) -> float:
        if record.at == -inf:
            return 0.0
        return float(record.refused * 0.5 ** ((now - record.at) / HALF_LIFE_S))
