"""How settings are named, read and explained."""
