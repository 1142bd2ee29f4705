"""Few and large: a deque of byte strings, each a megabyte."""
import collections

import zoo


class Recorder:
    def __init__(self):
        self.chunks = collections.deque()

    def record(self, chunk):
        self.chunks.append(chunk)


recorder = Recorder()
for number in range(3):
    recorder.record(bytes([number]) * (1 << 20))  # leaks
zoo.steady()
for number in range(80):
    recorder.record(bytes([number]) * (1 << 20))  # leaks
zoo.done()
