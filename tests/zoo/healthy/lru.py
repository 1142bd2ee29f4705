"""lru_cache with a bound, full, under requests for ever new things."""
import functools

import zoo


@functools.lru_cache(20_000)
def render(path, number):
    return f"<p>{path} {number}</p>" * 30


def answer(path, _):
    for number in range(50):
        render(path, number)
    return b"ok"


for number in range(25_000):
    render("warm", number)
zoo.serve(answer)
