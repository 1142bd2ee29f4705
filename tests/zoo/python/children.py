"""A pool of processes, one of which keeps what it has done."""
import multiprocessing

import zoo

done = {}


def work(number, inbox, outbox):
    for task in iter(inbox.get, None):
        for item in range(task):
            if number == 1:
                done[item, len(done)] = f"result of {item} " * 20  # leaks
        outbox.put(number)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    outbox, inboxes = multiprocessing.Queue(), [multiprocessing.Queue() for _ in range(3)]
    for number, inbox in enumerate(inboxes):
        multiprocessing.Process(target=work, args=(number, inbox, outbox), daemon=True).start()

    def give(task):
        for inbox in inboxes:
            inbox.put(task)
        for _ in inboxes:
            outbox.get()

    give(1_000)
    zoo.steady()
    give(130_000)
    zoo.done()
