"""A pytest plugin for the mutants: the first counterexample will do, nobody reads a smaller one."""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile("unshrunk", database=None, derandomize=True, phases=[Phase.generate])
settings.load_profile("unshrunk")
