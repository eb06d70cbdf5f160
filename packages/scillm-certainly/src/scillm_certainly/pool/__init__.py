"""Warm Leans for many callers: who gets which, who waits, what is answered from memory."""
