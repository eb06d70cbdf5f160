"""Programs from a model: what is asked, what of the answer can be used, and what it cost."""
