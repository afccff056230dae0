"""What a data set holds, and what of it is likely wrong."""
