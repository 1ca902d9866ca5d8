"""What is done to an update as a whole before it travels."""
