"""Routing: one request, several deployments, who answers."""
