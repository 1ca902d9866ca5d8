"""Networks known from natural images, with one answer an image."""
