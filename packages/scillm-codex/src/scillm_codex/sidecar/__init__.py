"""The sidecar: OpenAI's chat API in front of the real Codex CLI."""
