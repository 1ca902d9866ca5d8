"""Pages that belong to a call: head masks, images, tables."""
