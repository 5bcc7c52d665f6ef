"""``slmcompile.lock``: the exact version of everything that the recipes refer to."""
