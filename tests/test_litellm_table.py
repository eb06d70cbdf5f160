"""The table of LiteLLM's behaviours names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/guide/litellm_differences.md"
TESTS = ROOT / "packages/scillm-core/tests"


def test_every_behaviour_is_shown_by_a_test_that_exists():
    """47 rows, numbered without a gap, each with a test of that name in that file."""
    rows = re.findall(r"^\| (\d+) \|.*\| `(test_\w+\.py)::(test_\w+)` \|$", PAGE.read_text(), re.M)

    assert [int(number) for number, _file, _name in rows] == list(range(1, 48))
    missing = [
        f"{file}::{name}"
        for _number, file, name in rows
        if not (TESTS / file).is_file() or f"def {name}(" not in (TESTS / file).read_text()
    ]
    assert missing == []
