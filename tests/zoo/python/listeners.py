"""Closures are put into a list of listeners, and each keeps alive what it was made with."""
import zoo


class Bus:
    def __init__(self):
        self.listeners = []

    def subscribe(self, listener):
        self.listeners.append(listener)


bus = Bus()


def open_view(number):
    document = f"document {number} ".encode() * 80  # leaks
    bus.subscribe(lambda event: document.find(event))


for number in range(1_000):
    open_view(number)
zoo.steady()
for number in range(50_000):
    open_view(number)
zoo.done()
