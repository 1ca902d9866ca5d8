"""What leaves a site: the one door, what holds it shut, and the books."""
