"""The judge: correctness is a gate; behind it measured differences count, and noise is a tie."""
