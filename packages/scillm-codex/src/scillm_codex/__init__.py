"""Codex for SciLLM: the provider `codex-agent`, the sidecar, the Responses bridge, the doctor."""
