"""Reports, model cards and the overview: pure functions from measured facts to documents."""
