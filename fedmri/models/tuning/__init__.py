"""How much of a network is trained: parts that stand still, and small layers beside large ones."""
