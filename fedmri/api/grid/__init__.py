"""A study of several runs over one set of data: a grid of settings, and what is chosen of it."""
