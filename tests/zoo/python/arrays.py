"""NumPy arrays that are kept for later."""
import numpy

import zoo

history = [numpy.random.rand(128, 128) for _ in range(20)]
zoo.steady()
for _ in range(600):
    history.append(numpy.random.rand(128, 128))  # leaks
zoo.done()
