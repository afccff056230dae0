"""Runs: folders with a config, checkpoints and what was made of them."""
