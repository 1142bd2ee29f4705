"""The parts of RESULTS.md: each script keeps to its own, between two comments that name it."""
import pathlib
import re

FILE = pathlib.Path(__file__).resolve().parent / "RESULTS.md"


def fences(name):
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def part(name):
    """What stands in the file between the comments of this name, they included; None if there is nothing."""
    begin, end = map(re.escape, fences(name))
    found = re.search(f"{begin}.*{end}", FILE.read_text() if FILE.exists() else "", re.S)
    return found and found[0]


def parts():
    """The names of all parts, in their order."""
    return re.findall(r"<!-- (\S+): begin -->", FILE.read_text() if FILE.exists() else "")


def write_part(name, text):
    """Replaces the part, or adds it at the end."""
    begin, end = fences(name)
    fenced = f"{begin}\n{text.strip()}\n{end}"
    whole, old = FILE.read_text() if FILE.exists() else "", part(name)
    whole = whole.replace(old, fenced) if old else f"{whole.rstrip()}\n\n{fenced}\n".lstrip()
    FILE.write_text(whole)


def write_rest(text):
    """Replaces everything outside the parts; they follow in their order."""
    kept = [part(name) for name in parts()]
    FILE.write_text("\n\n".join([text.strip(), *kept]) + "\n")
