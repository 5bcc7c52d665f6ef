"""Recipe → plan: pure functions over frozen dataclasses."""
