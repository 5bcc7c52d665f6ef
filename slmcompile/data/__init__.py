"""Rows of a source to tokenized, checked and split Parquet files."""
