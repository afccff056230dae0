"""Weights of other libraries: file formats, and the mappings to the models here.

No file format needs PyTorch or TensorFlow, and none executes what it reads.
"""
