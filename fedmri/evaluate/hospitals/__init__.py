"""Hospitals as random units: what a new hospital may see, and what would tell it better."""
