"""NumPy arrays that come and go, of many sizes."""
import numpy

import zoo


def batch(number):
    parts = [numpy.random.rand(100 + (number * 37 + part * 101) % 900, 256) for part in range(30)]
    return sum(part.sum() for part in parts)


for number in range(20):
    batch(number)
zoo.steady()
for number in range(150):
    batch(number)
zoo.done()
