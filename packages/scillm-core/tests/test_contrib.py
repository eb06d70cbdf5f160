"""The documented import paths work."""

from __future__ import annotations

from scillm.batch import buckets, checkpoint, runner
from scillm.contrib import batch


def test_the_batch_helpers_are_where_the_documents_say():
    """Every name of `scillm.contrib.batch` is the core's own."""
    homes = (buckets, checkpoint, runner)

    for name in batch.__all__:
        assert getattr(batch, name) in [getattr(home, name, None) for home in homes]
