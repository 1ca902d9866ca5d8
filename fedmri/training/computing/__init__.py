"""What a network computes with: the device, its arithmetic, and how that is chosen."""
