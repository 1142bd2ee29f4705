"""A tree of dicts, by country and by town, whose lists at the bottom grow."""
import zoo

index = {f"country {country}": {f"town {town}": [] for town in range(20)} for country in range(40)}


def add(count):
    for number in range(count):
        towns = index[f"country {number % 40}"]
        towns[f"town {number // 40 % 20}"].append((number, f"person {number}"))  # leaks


add(20_000)
zoo.steady()
add(450_000)
zoo.done()
