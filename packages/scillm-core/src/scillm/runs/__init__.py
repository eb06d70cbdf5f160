"""Runs: what was done, kept so that it can be read, compared and done again."""
