"""What is stated of a finished run: what went in, what came out, and who says so."""
