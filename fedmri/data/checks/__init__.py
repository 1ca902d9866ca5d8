"""What may be wrong with a data set, and who is left out for it."""
