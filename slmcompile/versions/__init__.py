"""Versions of recipes as git tags in GTO's form; ``docs/versions.md`` says what they hold to."""
