"""Who belongs to the consortium, and who is there."""
