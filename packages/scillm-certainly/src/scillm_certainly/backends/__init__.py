"""Where a Lean comes from, and the warm processes made of it."""
