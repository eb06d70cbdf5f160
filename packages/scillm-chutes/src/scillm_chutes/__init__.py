"""Chutes for SciLLM. This version holds the package only; it offers no plugin yet."""
