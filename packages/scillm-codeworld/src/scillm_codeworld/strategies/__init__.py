"""CodeWorld's search strategies: pure, seeded, and registered under `scillm.strategies`."""
