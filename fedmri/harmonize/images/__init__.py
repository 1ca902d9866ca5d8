"""Harmonization of images: landmarks and moments from sums over sites."""
