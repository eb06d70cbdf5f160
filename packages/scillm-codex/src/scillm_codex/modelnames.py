"""Model names as people write them, and the id that Codex knows."""

from __future__ import annotations

PROVIDER = "codex-agent"
PREFIXES = ("codex-agent/", "code-agent/", "code_agent/")
"""What stands in front of an id for the provider; the second and third are older names."""
STRIPPED = (*PREFIXES, "codex/")


def is_for_codex(model: str) -> bool:
    """Whether a model is the sidecar's: it says so, or names no provider."""
    return "/" not in model or model.startswith(PREFIXES)


def bare_model(model: str) -> str:
    """The id without our own prefix."""
    for prefix in STRIPPED:
        if model.startswith(prefix) and len(model) > len(prefix):
            return model[len(prefix) :]
    return model
