"""BIDS data sets: names of files, tables, and what belongs together."""
