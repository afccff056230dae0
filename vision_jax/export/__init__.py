"""What a run found, written for other programs."""
