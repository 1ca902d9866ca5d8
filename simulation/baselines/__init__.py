"""Models without a network that stand beside every network."""
