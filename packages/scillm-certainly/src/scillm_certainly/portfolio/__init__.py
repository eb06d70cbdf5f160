"""Requirements proved: tactics in a fixed order first, then, if one is configured, a model."""
