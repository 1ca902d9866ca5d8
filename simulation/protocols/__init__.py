"""Protocols of a study, a file each."""
