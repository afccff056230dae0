"""How it is trained: devices, loop, checkpoints, metrics."""
