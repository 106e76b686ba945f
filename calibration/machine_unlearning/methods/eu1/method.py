"""EU-1: a new last layer, learnt on the retain set while all other layers stay unchanged."""

from model import Batches, cross_entropy, descend, forward, fresh, repeat

HEAD, EPOCHS, RATE = 0.7, 8, 0.08


def unlearn(model, sets, count, rng):
    """A stack of `count` models that differ only in the last layer."""
    body, initial = repeat(model, count), fresh(model, count, rng)
    retain = Batches(sets["retain"], count, rng)

    def loss(head):
        x, y = retain.next()
        return cross_entropy(forward(body | head, x), y)

    head = {name: HEAD * initial[name] for name in ("w2", "b2")}
    return body | descend(head, loss, EPOCHS * retain.per_epoch, RATE)
