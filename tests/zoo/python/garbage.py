"""The collector was switched off, for speed, and what refers to itself in a ring is never freed."""
import gc

import zoo

gc.disable()


class Node:
    def __init__(self, text):
        self.text, self.child = text, Child(self)  # leaks


class Child:
    def __init__(self, parent):
        self.parent = parent


def parse(count):
    for number in range(count):
        Node(f"element {number} " * 10)  # leaks


parse(2_000)
zoo.steady()
parse(200_000)
zoo.done()
