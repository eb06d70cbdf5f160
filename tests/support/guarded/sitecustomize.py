"""On PYTHONPATH, keeps every Python process on this machine, children of children as well."""

from __future__ import annotations

from support.loopback import loopback_only

# Never left: the process ends first.
_guard = loopback_only()
_guard.__enter__()
