"""Small networks with one answer an image."""
