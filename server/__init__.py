"""The aggregating process: who joins a round, and what the next model is."""
