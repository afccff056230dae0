"""What is trained: each task's state, loss and pure steps."""
