"""Counting for `/metrics`: counters, gauges and one histogram, in Prometheus' text format 0.0.4."""

from __future__ import annotations

from collections.abc import Callable

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What a server has done so far. Remembers numbers only, one row per name and labels."""

    def __init__(self) -> None:
        self._help: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, dict[Labels, float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._seconds: dict[str, dict[Labels, list[float]]] = {}

    def count(self, name: str, doc: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` to a counter."""
        self._help.setdefault(name, ("counter", doc))
        rows = self._counts.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        rows[key] = rows.get(key, 0) + amount

    def gauge(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """Show what `read()` gives at the moment of asking."""
        self._help.setdefault(name, ("gauge", doc))
        self._gauges[name] = read

    def took(self, name: str, doc: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        self._help.setdefault(name, ("histogram", doc))
        rows = self._seconds.setdefault(name, {})
        # One number per bucket, then how many, then their sum.
        row = rows.setdefault(tuple(sorted(labels.items())), [0.0] * (len(BUCKETS_S) + 2))
        for place, bound in enumerate(BUCKETS_S):
            row[place] += seconds <= bound
        row[-2] += 1
        row[-1] += seconds

    def text(self) -> str:
        """Everything, in the text format."""
        lines: list[str] = []
        for name, (kind, doc) in sorted(self._help.items()):
            lines += [f"# HELP {name} {doc}", f"# TYPE {name} {kind}"]
            if name in self._gauges:
                lines.append(f"{name} {_number(self._gauges[name]())}")
            for labels, value in sorted(self._counts.get(name, {}).items()):
                lines.append(f"{name}{_shown(labels)} {_number(value)}")
            for labels, row in sorted(self._seconds.get(name, {}).items()):
                lines += _histogram(name, labels, row)
        return "\n".join(lines) + "\n"


def _histogram(name: str, labels: Labels, row: list[float]) -> list[str]:
    lines = [
        f"{name}_bucket{_shown((*labels, ('le', _number(bound))))} {_number(row[place])}"
        for place, bound in enumerate(BUCKETS_S)
    ]
    lines.append(f"{name}_bucket{_shown((*labels, ('le', '+Inf')))} {_number(row[-2])}")
    lines.append(f"{name}_sum{_shown(labels)} {row[-1]!r}")
    lines.append(f"{name}_count{_shown(labels)} {_number(row[-2])}")
    return lines


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
