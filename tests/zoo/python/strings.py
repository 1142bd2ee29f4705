"""A list of strings that nobody shortens."""
import zoo

events = [f"event {number} " * 4 for number in range(20_000)]
zoo.steady()
for number in range(600_000):
    events.append(f"event {number} " * 4)  # leaks
zoo.done()
