"""How tests are handed out to several processes."""

from __future__ import annotations

import pytest
from support.spread import group_of

PACKAGE = "packages/scillm-certainly/tests"
PAGE = "tests/test_docs.py::test_every_block_of_a_page_runs"


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        (f"{PACKAGE}/test_pool.py::test_memory_is_bounded[trio]", "lean"),
        (f"{PACKAGE}/test_conformance.py::TestLeanVerifier::test_undecided", "lean"),
        (f"{PAGE}[docs/guide/certainly_proving.md]", "lean"),
        (f"{PAGE}[docs/guide/calls.md]", f"{PAGE}[docs/guide/calls.md]"),
        ("packages/a/tests/test_a.py::test_it_is[certainly]", "packages/a/tests/test_a.py"),
        ("packages/a/tests/test_a.py::TestA::test_it", "packages/a/tests/test_a.py"),
    ],
)
def test_what_shares_something_costly_shares_a_process(nodeid: str, group: str) -> None:
    """A file's fixtures are made once, and no two processes hold Leans of 1 GB each."""
    assert group_of(nodeid) == group
