"""Image sources, batches and augmentation."""
