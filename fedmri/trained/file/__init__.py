"""The file of a finished model: what stands in it, and how it is written and read."""
