"""Commits and errors of the Hugging Face hub."""
