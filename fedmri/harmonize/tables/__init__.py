"""Tables of features: what each column is, read and written."""
