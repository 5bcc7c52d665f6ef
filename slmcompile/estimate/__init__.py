"""Predictions from shapes: optimizer steps, memory, time, cost."""
