"""Resilience: how long to wait, and for how long in all."""
