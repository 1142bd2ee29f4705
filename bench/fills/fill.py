"""A bytearray that grows, flat out. With the argument `idle` it ends at once."""
import sys

BLOCK = b"x" * (64 << 10)
held = bytearray()
while "idle" not in sys.argv:
    held += BLOCK
