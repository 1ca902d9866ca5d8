"""Stages: what is done to scans, embeddings and updates on their way from a site to the model."""
