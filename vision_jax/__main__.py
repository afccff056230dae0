"""Run the command line as `python -m vision_jax`."""

import sys

from vision_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
