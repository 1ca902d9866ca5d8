"""Networks by name, and nothing but torch."""
