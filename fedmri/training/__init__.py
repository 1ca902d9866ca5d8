"""Local training at one site, and the scores of its patients."""
