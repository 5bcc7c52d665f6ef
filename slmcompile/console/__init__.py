"""What a person sees: errors with place and hint, printable text, progress, streams."""
