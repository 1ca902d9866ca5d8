"""What goes to a journal with a run: checklists, claims, a crate, the model; no patient."""
