"""Plans: begun, checked, and their settings explained."""
