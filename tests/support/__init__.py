"""Shared test machinery: real servers on loopback and the tiny model they serve."""
