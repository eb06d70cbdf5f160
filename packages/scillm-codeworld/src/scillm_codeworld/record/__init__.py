"""What is kept of a run: its rows, its result, sessions of runs and their progress."""
