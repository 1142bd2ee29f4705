"""Threads that are started for a job and never end."""
import threading

import zoo

stop = threading.Event()


def watch(number):
    history = bytearray(64 * 1024)  # leaks
    stop.wait()
    print(number, len(history))


def start(count):
    for number in range(count):
        threading.Thread(target=watch, args=(number,), daemon=True).start()  # leaks


start(5)
zoo.steady()
start(500)
zoo.done()
