"""Each request makes a lot of garbage, in rings too, and keeps nothing of it."""
import zoo


class Node:
    def __init__(self, parent, text):
        self.parent, self.text, self.children = parent, text, []


def answer(path, _):
    root = Node(None, path)
    for number in range(300):
        root.children.append(Node(root, f"{path} node {number} " * 5))
    return str(len(root.children)).encode()


zoo.serve(answer)
