"""What a run amounts to, for people: as text for a terminal, as one HTML page."""
