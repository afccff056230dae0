"""Devices, meshes and processes."""
