"""Try the method (`python main.py`), or play the game of an evaluation (`python main.py play`)."""

import sys

import numpy as np

from method import Method

if sys.argv[1:] == ["play"]:
    import game

    method = Method(int(np.load("inputs/count.npy")))
    for fields, arrays in game.questions():
        game.answer(guesses=method.guess(arrays["signs"]))
        print(f"round {fields['round'] + 1}: guessed", flush=True)
else:
    import practice

    numbers = np.load("data/practice.npy")
    distance = practice.play(Method(len(numbers)), numbers)
    print(f"mean distance to {len(numbers)} practice numbers: {distance:.2f}", flush=True)
