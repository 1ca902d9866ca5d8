"""A model behind an address of this machine: a scan goes in, a mask or values come back."""
