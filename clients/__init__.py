"""The process at a site: its data, its training, and what may leave it."""
