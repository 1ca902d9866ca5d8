"""Commands that make a client ready."""
