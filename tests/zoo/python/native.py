"""A library takes memory with malloc, and nobody gives it back: no Python object knows of it."""
import ctypes

import zoo

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = library.memset.argtypes = None
words = {number: str(number) for number in range(50_000)}


def decode(size):
    block = library.malloc(ctypes.c_size_t(size))
    library.memset(ctypes.c_void_p(block), ctypes.c_int(1), ctypes.c_size_t(size))


for _ in range(1_000):
    decode(1_000)
zoo.steady()
for _ in range(80_000):
    decode(1_000)
zoo.done()
