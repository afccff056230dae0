"""An index together with the images it is of."""
