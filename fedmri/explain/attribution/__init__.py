"""What moved a score: maps over the image, and columns beside it."""
