"""Image grids, plots and HTML."""
