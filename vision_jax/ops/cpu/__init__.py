"""Convolutions and pooling as operations whose lowering depends on the platform."""
