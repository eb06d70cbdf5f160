"""HTTP: bytes in and out, server-sent events, and JSON to records and back."""
