"""The commands that use a finished model."""
