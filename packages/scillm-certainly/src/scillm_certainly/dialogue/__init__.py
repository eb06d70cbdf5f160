"""Tactic mode: a conversation with Lean about goals. Nothing that is said in it is a verdict."""
