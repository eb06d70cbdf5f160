"""Batch: many items, each done once, at a pace."""
