"""A recipe: composed by Hydra, checked against a closed schema, kept with its origins."""
