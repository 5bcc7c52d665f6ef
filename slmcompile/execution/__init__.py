"""Brings the generated files in line and has DVC execute them."""
