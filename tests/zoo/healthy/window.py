"""The last so many measurements are kept, and no more."""
import collections

import zoo

recent = collections.deque(maxlen=200_000)
for number in range(250_000):
    recent.append((number, f"measurement {number}"))
zoo.steady()
for number in range(700_000):
    recent.append((number, f"measurement {number}"))
zoo.done()
