"""Try the method (`python main.py`), or play the game of an evaluation (`python main.py play`)."""

import json
import sys

import numpy as np

from method import Optimizer
from space import Space

BATCH, WIDTH = 6, 12  # points a round; numbers in the row of a point, of which a problem uses the first ones


def play():
    """Answer each round with the next points of all problems."""
    import game

    with open("inputs/spaces.json") as file:
        spaces = [Space(parameters) for parameters in json.load(file)]
    optimizers = [Optimizer(space, number) for number, space in enumerate(spaces)]
    points = []
    for fields, arrays in game.questions():
        if fields["round"] > 0:
            for optimizer, tried, losses in zip(optimizers, points, arrays["losses"]):
                optimizer.observe(tried, losses)
        points = [optimizer.suggest(BATCH) for optimizer in optimizers]
        table = np.zeros((len(spaces), BATCH, WIDTH))
        for row, tried in zip(table, points):
            row[:, : tried.shape[1]] = tried
        game.answer(points=table)
        print(f"round {fields['round'] + 1}", flush=True)


if sys.argv[1:] == ["play"]:
    play()
else:
    import practice

    print(f"score on 12 practice problems: {practice.score(Optimizer):.2f}", flush=True)
