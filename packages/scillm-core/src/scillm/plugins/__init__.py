"""Plugins: chosen by name through entry points, told through hooks, configured by settings."""
