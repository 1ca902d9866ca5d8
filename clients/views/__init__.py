"""What a hospital sees of its part: in a terminal, and as a page of its own machine."""
