"""Weights of other libraries: file formats, and the mappings to the models here."""
