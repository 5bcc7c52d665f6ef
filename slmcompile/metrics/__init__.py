"""What is measured of a prediction, and the bars that it must pass."""
