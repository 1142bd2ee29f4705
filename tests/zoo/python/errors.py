"""Exceptions that are kept, and with them the frames of all functions that they passed."""
import zoo

errors = []


def parse(text):
    lines = text.split()
    return int(lines[0])


def load(number):
    try:
        parse(f"record {number} of many " * 100)  # leaks
    except ValueError as error:
        errors.append(error)  # leaks


for number in range(100):
    load(number)
zoo.steady()
for number in range(4_000):
    load(number)
zoo.done()
