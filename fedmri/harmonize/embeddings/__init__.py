"""Harmonization of what a network makes of an image."""
