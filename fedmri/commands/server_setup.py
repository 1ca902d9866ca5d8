"""Commands that make a server ready."""
