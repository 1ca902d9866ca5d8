"""How orders and answers travel: SuperLink, its doors, and what got lost."""
