"""Search and verification: many candidates, which one wins; many claims, which of them hold."""

from scillm.search.budget import Budget
from scillm.search.loop import SearchResult, search
from scillm.search.sweep import Sweep
from scillm.search.verify import verify

__all__ = ["Budget", "SearchResult", "Sweep", "search", "verify"]
