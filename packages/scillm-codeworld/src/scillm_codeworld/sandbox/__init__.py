"""The sandbox: one process per run, walls it cannot climb, and a parent that never trusts it."""

from __future__ import annotations

from scillm_codeworld.sandbox.opening import open_sandbox
from scillm_codeworld.sandbox.protocol import Sandbox

__all__ = ["Sandbox", "open_sandbox"]
