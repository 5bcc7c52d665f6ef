"""Opens, merges and writes model weights."""
