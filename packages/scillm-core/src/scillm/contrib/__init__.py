"""The import paths of the first SciLLM's documents; the code lives in the core's rooms."""
