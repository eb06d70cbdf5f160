"""The mini-agent: a model that works with tools until it answers or meets a limit."""
