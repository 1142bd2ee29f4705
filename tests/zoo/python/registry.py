"""Each session enters itself into a class attribute, and is never taken out."""
import zoo


class Session:
    known = {}

    def __init__(self, number):
        self.number, self.user, self.basket = number, f"user {number}", [number]  # leaks
        Session.known[number] = self


for number in range(5_000):
    Session(number)
zoo.steady()
for number in range(5_000, 150_000):
    Session(number)  # leaks
zoo.done()
