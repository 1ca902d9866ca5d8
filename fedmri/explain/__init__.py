"""What a trained model looked at, how sure it is, and how far a scan is from what it knows."""
