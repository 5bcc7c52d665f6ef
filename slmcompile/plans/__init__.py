"""The compiled plan: plain data, its canonical bytes and what it is built from."""
