"""The mini-agent's own tools: code, files, commands."""
