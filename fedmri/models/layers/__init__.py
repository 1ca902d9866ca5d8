"""Layers that no library has in two and three dimensions, for the networks beside them."""
