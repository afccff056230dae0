"""Training: the loop, checkpoints, metrics and progress."""
