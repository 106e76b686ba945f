"""Entry point. Protected: this file is restored before every evaluation.

python main.py            try the method: meta-train on five published domains, test on the other three
python main.py predict    what an evaluation runs: data/ and inputs/ -> artefacts/predictions.npy

Every stage runs in its own process, and only what `Learner.save` writes passes from one to the next.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # (otherwise optimisers would import it in every process)

from episodes import load_dataset, load_tasks, normalised_accuracy

SEED = 7
LEARNER = Path("learner")
HELD_OUT, TRIALS = 3, 12  # published domains and tasks of the quick experiment


def apart(work, *arguments):
    """Call `work` in a new process and return its result, an int64 array."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.manual_seed(SEED)
            np.random.seed(SEED)
            answer = np.ascontiguousarray(work(*arguments), dtype=np.int64)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer.tobytes())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = np.frombuffer(pipe.read(), dtype=np.int64)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(f"{work.__name__} failed")
    return answer


def meta_train(dataset):
    """First stage: meta-train a learner and save it."""
    from method import MetaLearner

    shutil.rmtree(LEARNER, ignore_errors=True)
    LEARNER.mkdir()
    MetaLearner().meta_fit(dataset).save(LEARNER)
    return []


def answer(task):
    """Second and third stage: make a predictor from the learner; return the class ids of the queries."""
    from method import Learner

    predictor = Learner.load(LEARNER).fit(task.support_images, task.support_labels, task.ways, task.shots)
    return predictor.predict(task.query_images)


def experiment():
    """Test the method on tasks from published domains that are held out of meta-training."""
    held_out, rest = load_dataset("data").split(range(HELD_OUT))
    apart(meta_train, rest)
    generator, scores = torch.Generator().manual_seed(SEED), []
    for number in range(TRIALS):
        ways, shots = 2 + 18 * number // (TRIALS - 1), 1 + 7 * number % 20
        task = held_out.task(generator, ways, shots, queries=10)
        truth, task.query_labels = task.query_labels, None
        scores.append(normalised_accuracy(truth, torch.from_numpy(apart(answer, task).copy()), ways))
        print(f"task {number + 1}: {ways} ways, {shots} shots: {scores[-1]:.3f}", flush=True)
    print(f"mean normalised accuracy on {TRIALS} tasks: {np.mean(scores):.4f}", flush=True)


def predict():
    """Answer all tasks of the split that is evaluated."""
    apart(meta_train, load_dataset("data"))
    answers = []
    for task in load_tasks("inputs"):
        answers.append(apart(answer, task))
        if len(answers[-1]) != len(task.query_images):
            sys.exit(
                f"task {len(answers)}: {len(answers[-1])} predictions for {len(task.query_images)} queries"
            )
    np.save("artefacts/predictions.npy", np.concatenate(answers))
    print(f"wrote artefacts/predictions.npy for {len(answers)} tasks", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["predict"]:
        predict()
    elif not sys.argv[1:]:
        experiment()
    else:
        sys.exit("usage: python main.py [predict]")
