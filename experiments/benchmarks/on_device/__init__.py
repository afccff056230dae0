"""The parts of `accelerator.py`: what is timed and checked on one device."""
