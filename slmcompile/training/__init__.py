"""The training loop, its hot path, and the checkpoints that let it survive being killed."""
