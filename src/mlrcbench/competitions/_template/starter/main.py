"""Try the method (`python main.py`), or write the predictions of an evaluation (`python main.py predict`)."""

import sys

import numpy as np

from method import predict

train = np.load("data/train.npy")
if sys.argv[1:] == ["predict"]:
    x = np.load("inputs/x.npy")
    np.save("artefacts/predictions.npy", np.asarray(predict(train, x), dtype=np.float64))
    print(f"predicted {len(x)} points", flush=True)
else:
    known, held_out = train[:150], train[150:]
    errors = predict(known, held_out[:, 0]) - held_out[:, 1]
    print(f"error on 50 held-out points: {np.sqrt(np.mean(errors**2)):.4f}", flush=True)
