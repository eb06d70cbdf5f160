"""The embedded Lean: from the published npm package to a runtime that stock Node can start."""
