"""A database in memory that only grows: SQLite's memory is no Python object's."""
import sqlite3

import zoo

connection = sqlite3.connect(":memory:")
connection.execute("create table event (id integer primary key, body text)")


def note(count):
    with connection:
        connection.executemany("insert into event (body) values (?)", ((f"event {number} " * 20,) for number in range(count)))


note(2_000)
zoo.steady()
note(250_000)
zoo.done()
