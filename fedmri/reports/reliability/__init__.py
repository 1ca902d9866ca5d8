"""Whether probabilities and values can be taken at their word, and what validation mends."""
