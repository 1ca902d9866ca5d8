"""Arithmetic that numbers of a paper must obey, and mistakes that make numbers mean nothing."""
