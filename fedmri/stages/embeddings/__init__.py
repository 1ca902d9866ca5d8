"""Stages that work on embeddings while a network is trained or scored."""
