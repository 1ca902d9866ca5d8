"""Rounds that close before all have answered, and updates that come after their round."""
