"""A summary in words, in tables and on a terminal."""
