"""What DVC remembers and what a killed run left: locks, specs, changes, journal."""
