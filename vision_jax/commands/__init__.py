"""The commands of `vision-jax`. Each imports what it needs, so that --help does not load JAX."""
