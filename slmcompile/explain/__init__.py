"""What commands say about plans: why, diff, saved plans, selection, text."""
