"""A handler that keeps records until an error comes, and none comes."""
import logging
import logging.handlers

import zoo

log = logging.getLogger("shop")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(logging.handlers.MemoryHandler(10**9, flushLevel=logging.ERROR))
for number in range(1_000):
    log.info("order %d", number)  # leaks
zoo.steady()
for number in range(80_000):
    log.info("order %d", number)  # leaks
zoo.done()
