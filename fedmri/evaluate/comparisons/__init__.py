"""Two models or two groups compared: tests, margins, gaps, subgroups, and worth of joining."""
