"""Forms of the operations that are fast on a CPU, and the primitives that choose them."""
