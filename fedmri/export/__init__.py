"""A model in the formats of other programs, measured beside the model that it was made from."""
