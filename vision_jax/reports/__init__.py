"""Pages and pictures of runs and data sets."""
