"""lru_cache(None) of a function that is hardly ever called twice with the same arguments."""
import functools

import zoo


@functools.lru_cache(None)
def render(page, language):
    return f"<h1>{page}</h1><p lang='{language}'>" * 8  # leaks


for page in range(2_000):
    render(page, "en")
zoo.steady()
for page in range(150_000):
    render(page, "de")
zoo.done()
