"""Means of the sites' models, and what is added to a site's training or taken from its drift."""
