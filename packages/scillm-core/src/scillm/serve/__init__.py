"""Serving: SciLLM's engines and answers to other programs, over HTTP (extra `serve`)."""
