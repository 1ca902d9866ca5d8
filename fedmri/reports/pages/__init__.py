"""Pages of a run, with their drawings and pictures."""
