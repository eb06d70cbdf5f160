"""Search and verification: many candidates, which one wins; many claims, which of them hold."""
