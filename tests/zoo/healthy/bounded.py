"""A cache that has filled to its bound, and stays there whatever comes."""
import collections

import zoo

cache = collections.OrderedDict()


def put(number):
    cache[number] = f"value {number} " * 20
    if len(cache) > 100_000:
        cache.popitem(last=False)


for number in range(400_000):
    put(number)
zoo.steady()
for number in range(400_000, 800_000):
    put(number)
zoo.done()
