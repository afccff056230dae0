"""tensorflow-datasets builders that need no TensorFlow."""
