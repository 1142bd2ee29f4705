"""Names that come from outside are interned and kept."""
import sys

import zoo

names = set()


def seen(name):
    names.add(sys.intern(name))  # leaks


for number in range(10_000):
    seen(f"com.example.measurement.{number}")  # leaks
zoo.steady()
for number in range(10_000, 600_000):
    seen(f"com.example.measurement.{number}")  # leaks
zoo.done()
