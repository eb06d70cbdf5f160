"""Fixtures: a fake Chutes, and an environment that points to it alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from scillm_chutes.fake import FakeChutes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CHUTES_", "SCILLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SCILLM_CHUTES_CACHE_DIR", str(tmp_path / "chutes"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChutes]:
    """A fake with its default models; CHUTES_API_BASE and CHUTES_API_KEY name it."""
    with FakeChutes() as server:
        monkeypatch.setenv("CHUTES_API_BASE", server.api_base)
        monkeypatch.setenv("CHUTES_API_KEY", server.key)
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "1000")
        yield server
