"""Large files are written and read, and deleted: the page cache is nobody's leak."""
import os
import tempfile

import zoo


def copy(folder, name):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        for _ in range(40):
            file.write(bytes(1 << 20))
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


with tempfile.TemporaryDirectory() as folder:
    copy(folder, "first")
    zoo.steady()
    for number in range(5):
        copy(folder, f"file {number}")
    zoo.done()
