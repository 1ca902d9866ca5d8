"""Rules that a few bad sites cannot move far; all are off by default."""
