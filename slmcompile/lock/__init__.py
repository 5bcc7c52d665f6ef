"""``locks/R.lock``: the exact version of everything that the recipe R refers to."""
