"""Reading files that are not trusted, and writing files that are whole or absent."""
