"""The engine: programs tried, searched, timed and scored, item by item."""
