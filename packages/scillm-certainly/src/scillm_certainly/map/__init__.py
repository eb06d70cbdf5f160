"""Proof maps: which declaration is made of which, and what became of each."""
