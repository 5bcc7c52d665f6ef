"""What leaves a project: one target of a recipe as an archive."""
