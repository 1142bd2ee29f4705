"""For each upload something is to be done at the end: the callbacks are kept in an array of C."""
import atexit

import zoo


class Upload:
    def __init__(self, number):
        self.number, self.head = number, b"%d" % number * 200  # leaks
        atexit.register(self.clean)

    def clean(self):
        self.head = None


for number in range(1_000):
    Upload(number)
zoo.steady()
for number in range(60_000):
    Upload(number)
zoo.done()
