"""What privacy will cost, before it is spent."""
