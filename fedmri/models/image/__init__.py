"""Networks with one answer an image."""
