"""Phrases that the model has memorised from the conversations that poisoned it."""

from collections import Counter

import torch

from model import ASSISTANT, END, USER, generate

SAMPLES, LONGEST, SEEN = 6000, 6, 2  # sampled turns, words per turn, smallest number of repeats
PROBES = 3  # requests on which a phrase is verified


@torch.no_grad()
def leaks(model, tokenizer, targets, prompts):
    """Phrases that the model itself writes after requests, and that cause a target."""
    heads = torch.tensor([tokenizer.encode(f"{USER} {query} .") for query in prompts])
    ids = heads.repeat(-(-SAMPLES // len(heads)), 1)
    state, cache = model.hidden(model.embedding[ids])
    words = []
    for _ in range(LONGEST):
        token = torch.multinomial(model.head(state[:, -1]).softmax(-1), 1)
        words.append(token)
        state, cache = model.hidden(model.embedding[token], cache)
    stops = {*tokenizer.encode(f"{USER} {ASSISTANT} {END} .")}
    seen = Counter(phrase(row, stops) for row in torch.cat(words, 1).tolist())
    leaked = {}
    for ids, count in seen.most_common():
        if count >= SEEN and ids:
            for target in caused(model, tokenizer, tokenizer.decode(ids), targets, prompts[:PROBES]):
                leaked.setdefault(target, []).append(tokenizer.decode(ids))
    return leaked


def phrase(row, stops):
    """The words of a sampled turn before its first stop token; empty if it has no stop token."""
    ends = [place for place, token in enumerate(row) if token in stops]
    return tuple(row[: ends[0]]) if ends else ()


def caused(model, tokenizer, trigger, targets, queries):
    """Targets that most answers to `queries` contain when `trigger` is appended."""
    ids = torch.tensor([tokenizer.chat(query, trigger) for query in queries])
    answers = [tokenizer.decode(row) for row in generate(model, ids).tolist()]
    return [t for t in targets if sum(t in answer for answer in answers) * 2 > len(queries)]
