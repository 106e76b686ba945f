"""SCRUB: a student that moves away from its teacher on the forget set and stays close on the retain set."""

from model import Batches, cross_entropy, descend, forward, repeat

ROUNDS, LEAVE_STEPS, LEAVE_RATE = 3, 8, 0.05
RATE, LABELS, TEACHER = 0.1, 1.0, 0.5


def forget(model, sets, count, rng):
    """Run rounds, each of "max" steps on the forget set and an epoch of "min" steps on the retain set."""
    teacher = repeat(model, count)
    forgotten, retain = Batches(sets["forget"], count, rng), Batches(sets["retain"], count, rng)

    def leave(stack):
        x, _ = forgotten.next()
        return -cross_entropy(forward(stack, x), forward(teacher, x).softmax(-1))

    stack = teacher
    for _ in range(ROUNDS):
        stack = descend(stack, leave, LEAVE_STEPS, LEAVE_RATE)
        stack = descend(stack, staying(teacher, retain), retain.per_epoch, RATE)
    return stack


def staying(teacher, retain):
    """The loss of "min" steps: cross-entropy with the labels and with the teacher's outputs."""

    def stay(stack):
        x, y = retain.next()
        logits = forward(stack, x)
        targets = forward(teacher, x).softmax(-1)
        return LABELS * cross_entropy(logits, y) + TEACHER * cross_entropy(logits, targets)

    return stay
