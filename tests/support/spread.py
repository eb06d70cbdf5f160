"""Which tests stay together when several processes run them; used by `--dist loadfile`.

pytest-xdist 3.8 reads its own `xdist_group` marks where pytest 9 no longer looks.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

PAGES = "tests/test_docs.py"


def group_of(nodeid: str) -> str:
    """A file is whole and a page is alone; all that starts Lean is one, for a Lean takes 1 GB."""
    path, _, name = nodeid.partition("::")
    is_page = path == PAGES
    if "certainly" in (name if is_page else path):
        return "lean"
    return nodeid if is_page else path


class Spread(LoadFileScheduling):
    """Hands one group after the other to whichever process has little left to do."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
