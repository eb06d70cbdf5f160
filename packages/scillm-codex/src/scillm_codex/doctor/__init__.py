"""The doctor: what works of Codex here, found out by trying."""
