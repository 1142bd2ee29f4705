"""Only a row of each array is kept; it keeps the whole array alive."""
import numpy

import zoo


class Window:
    def __init__(self, picture):
        self.row = picture[10]


windows = {number: Window(numpy.ones((256, 256))) for number in range(5)}
zoo.steady()
for number in range(5, 160):
    windows[number] = Window(numpy.ones((256, 256)))  # leaks
zoo.done()
