"""lru_cache on a method: the cache keeps each instance, and each request makes one."""
import functools

import zoo


class Order:
    def __init__(self, path):
        self.path, self.items = path, [f"{path} item {number}" for number in range(300)]  # leaks

    @functools.lru_cache(maxsize=None)
    def total(self):
        return len(self.items)


zoo.serve(lambda path, _: str(Order(path).total()).encode())
