"""A model's service keeps the features of each request (NumPy) for a statistic that nobody reads."""
import numpy

import zoo


class Model:
    def __init__(self):
        self.weights, self.seen = numpy.ones((256, 64)), []

    def predict(self, path):
        features = numpy.full((64, 256), float(len(path)))  # leaks
        self.seen.append(features)  # leaks
        return (features @ self.weights).sum()


model = Model()
zoo.serve(lambda path, _: str(model.predict(path)).encode())
