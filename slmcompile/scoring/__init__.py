"""Metrics over answers: baselines, paired tests, gates."""
