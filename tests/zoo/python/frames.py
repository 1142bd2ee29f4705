"""pandas frames in a dict of the module, by their date."""
import numpy
import pandas

import zoo

reports = {}


def report(day):
    table = pandas.DataFrame({"amount": numpy.arange(20_000) * 0.5, "count": numpy.arange(20_000)})  # leaks
    reports[f"day {day}"] = table[table["amount"] > 10]  # leaks


for day in range(10):
    report(day)
zoo.steady()
for day in range(10, 210):
    report(day)
zoo.done()
