#!/usr/bin/env python3
"""Looks whether a heap dump is what the description of its form says, where `read`, whose library is made to cope with much, is
easygoing.

usage: hprof.py DUMP.hprof.gz      prints a line `NAME COUNT` for each class of which there are objects

Names are those of the JVM, with dots. It fails where the dump makes no sense, a record is cut short, a name comes
after an object that needs it, or the end mark is not at the end.
"""
import collections
import gzip
import struct
import sys

WIDTH = {4: 1, 5: 2, 6: 4, 7: 8, 8: 1, 9: 2, 10: 4, 11: 8}
PRIMITIVE = {4: "boolean", 5: "char", 6: "float", 7: "double", 8: "byte", 9: "short", 10: "int", 11: "long"}
ROOTS = {0xFF: (1, 0), 0x01: (2, 0), 0x02: (1, 8), 0x03: (1, 8), 0x04: (1, 4), 0x05: (1, 0), 0x06: (1, 4), 0x07: (1, 0),
         0x08: (1, 8)}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        part = self.data[self.at:self.at + length]
        assert len(part) == length, f"cut short at {self.at}"
        self.at += length
        return part

    def number(self, length):
        return int.from_bytes(self.take(length), "big")


def main(path):
    with gzip.open(path) as file:
        reader = Reader(memoryview(file.read()))
    magic = bytes(reader.take(19))
    assert magic in (b"JAVA PROFILE 1.0.2\0", b"JAVA PROFILE 1.0.1\0"), magic
    wide = reader.number(4)
    reader.take(8)
    texts, names, counts, layout = {}, {}, collections.Counter(), {}
    WIDTH[2] = wide
    tag = None
    while reader.at < len(reader.data):
        assert tag != 0x2C, "something is behind the end"
        tag = reader.number(1)
        reader.take(4)
        body = Reader(reader.take(reader.number(4)))
        if tag == 0x01:
            identity = body.number(wide)
            texts[identity] = bytes(body.take(len(body.data) - wide))
        elif tag == 0x02:
            body.take(4)
            identity = body.number(wide)
            body.take(4)
            names[identity] = texts[body.number(wide)].decode("utf-8", "replace").replace("/", ".")
        elif tag in (0x0C, 0x1C):
            heap(body, wide, names, counts, layout)
        else:
            assert tag in (0x04, 0x05, 0x2C) or 0x03 <= tag <= 0x0E, f"record {tag:#x}"
    assert tag == 0x2C, "there is no end"
    for name, count in sorted(counts.items()):
        print(name, count)


def heap(body, wide, names, counts, layout):
    while body.at < len(body.data):
        kind = body.number(1)
        if kind in ROOTS:
            identities, rest = ROOTS[kind]
            body.take(identities * wide + rest)
        elif kind == 0x20:
            identity = body.number(wide)
            assert identity in names, "a class has no name"
            body.take(4)
            parent = body.number(wide)
            body.take(5 * wide + 4)
            for _ in range(body.number(2)):
                body.take(2)
                body.take(WIDTH[body.number(1)])
            for _ in range(body.number(2)):
                body.take(wide)
                body.take(WIDTH[body.number(1)])
            fields = 0
            for _ in range(body.number(2)):
                body.take(wide)
                fields += WIDTH[body.number(1)]
            layout[identity] = (parent, fields)
        elif kind == 0x21:
            body.take(wide + 4)
            identity = body.number(wide)
            length = body.number(4)
            body.take(length)
            counts[names[identity]] += 1
            expected, ancestor = 0, identity
            while ancestor:
                ancestor, fields = layout[ancestor]
                expected += fields
            assert expected == length, f"an object of {names[identity]} has {length} bytes, not {expected}"
        elif kind == 0x22:
            body.take(wide + 4)
            length = body.number(4)
            counts[names[body.number(wide)]] += 1
            body.take(length * wide)
        elif kind == 0x23:
            body.take(wide + 4)
            length = body.number(4)
            kind = body.number(1)
            body.take(length * WIDTH[kind])
            counts[PRIMITIVE[kind] + "[]"] += 1
        else:
            raise AssertionError(f"part {kind:#x} at {body.at}")


main(sys.argv[1])
