"""What parties agree on before a run: keys, signed plans, letters, what two plans differ in."""
