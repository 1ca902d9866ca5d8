"""A site's half of a round: its data, its network, its state."""
