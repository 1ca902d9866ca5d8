"""Strategies under which a site keeps a part of the model, or a model, of its own."""
