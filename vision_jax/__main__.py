"""Run the command line as `vision-jax` or `python -m vision_jax`."""

import sys

try:
    from vision_jax.cli import main
except KeyboardInterrupt:  # while the command line itself is imported
    print("vision-jax: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
