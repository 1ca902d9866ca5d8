"""Linear models with one optimum, found the same way each time."""
