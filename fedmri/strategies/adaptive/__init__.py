"""Optimizers at the server."""
