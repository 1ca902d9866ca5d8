"""A run whose orders and answers travel as sealed files in a shared folder."""
