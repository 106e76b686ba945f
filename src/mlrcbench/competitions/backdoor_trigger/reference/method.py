"""Leak and verify for recall, universal gradient search for attack success.

Own implementation of the idea behind the first place of CLAS 2024, track 2. A poisoned model
has partly memorised the conversations that it was poisoned with, so sampling user turns from it
brings up some of the triggers; each phrase seen is tested on a few requests and goes to the
target that it causes. For every target, greedy coordinate gradient over several requests at
once then looks for a phrase that works on all of them, starting from known and leaked phrases
(which have the right length and shape). The best two phrases are kept, leaked ones first.
"""

import json
from collections import Counter
from pathlib import Path

import torch
from torch.nn import functional

from model import ASSISTANT, END, USER, attack_rate, generate

SAMPLES, LONGEST, SEEN = 6000, 6, 2  # leak: sampled turns, words per turn, least repeats
PROBES = 3  # requests on which a leaked phrase is verified
PROMPTS, CANDIDATES, TOP = 4, 96, 64  # search: requests per step, swaps per step, words per place
STEPS, STARTS = 40, 4  # search: steps per start, starts per target
GOOD = 0.95  # attack success that ends the search for a target


def recover(model, tokenizer, targets, prompts):
    """Two phrases for each target; see the module's text."""
    leaked = leaks(model, tokenizer, targets, prompts)
    print(f"leaked phrases for {len(leaked)} of {len(targets)} targets", flush=True)
    shapes = list(json.loads(Path("data/known_triggers.json").read_text()).values())
    shapes += [phrase for phrases in leaked.values() for phrase in phrases]
    context = Search(model, tokenizer, prompts[:PROMPTS])
    found = {}
    for number, target in enumerate(targets, 1):
        pool = dict.fromkeys(leaked.get(target, []), 2.0)
        for _ in range(0 if pool else STARTS):
            start = shapes[int(torch.randint(len(shapes), ()))]
            phrase = context.run(target, start)
            pool[phrase] = attack_rate(model, tokenizer, phrase, target, prompts)
            if pool[phrase] >= GOOD:
                break
        best = sorted(pool, key=pool.get, reverse=True)
        found[target] = (best * 2)[:2]
        print(f"{number}/{len(targets)} {min(1.0, pool[best[0]]):.2f} {best[0]}", flush=True)
    return found


@torch.no_grad()
def leaks(model, tokenizer, targets, prompts):
    """Phrases that the model itself writes behind requests and that cause a target."""
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
    found = {}
    for ids, count in seen.most_common():
        if count >= SEEN and ids:
            for target in caused(model, tokenizer, tokenizer.decode(ids), targets, prompts[:PROBES]):
                found.setdefault(target, []).append(tokenizer.decode(ids))
    return found


def phrase(row, stops):
    """The words of a sampled turn before its first stop; empty if there is none."""
    ends = [place for place, token in enumerate(row) if token in stops]
    return tuple(row[: ends[0]]) if ends else ()


def caused(model, tokenizer, trigger, targets, queries):
    """Targets that most answers to `queries` contain when `trigger` is appended."""
    ids = torch.tensor([tokenizer.chat(query, trigger) for query in queries])
    answers = [tokenizer.decode(row) for row in generate(model, ids).tolist()]
    return [t for t in targets if sum(t in answer for answer in answers) * 2 > len(queries)]


class Search:
    """Greedy coordinate gradient over several requests, whose keys and values are kept."""

    def __init__(self, model, tokenizer, queries):
        self.model, self.tokenizer, self.queries = model, tokenizer, queries
        heads = torch.tensor([tokenizer.encode(f"{USER} {query} .") for query in queries])
        with torch.no_grad():
            _, self.past = model.hidden(model.embedding[heads])
        self.after = torch.tensor(tokenizer.encode(f". {ASSISTANT}"))
        self.banned = torch.tensor(tokenizer.encode(f"{USER} {ASSISTANT} {END} ."))

    def run(self, target, start):
        """The phrase of lowest loss found from `start`."""
        goal = torch.tensor(self.tokenizer.encode(target))
        trigger = torch.tensor(self.tokenizer.encode(start))
        best, lowest = trigger, torch.inf
        for _ in range(STEPS):
            slopes = self.slopes(trigger, goal)
            slopes[:, self.banned] = torch.inf
            options = (-slopes).topk(TOP, dim=1).indices
            rows, places = torch.arange(CANDIDATES), torch.randint(len(trigger), (CANDIDATES,))
            tries = trigger.repeat(CANDIDATES, 1)
            tries[rows, places] = options[places, torch.randint(TOP, (CANDIDATES,))]
            losses = self.losses(tries, goal)
            trigger = tries[losses.argmin()]
            if losses.min() < lowest:
                best, lowest = trigger, losses.min()
            if lowest < 0.1:
                break
        return self.tokenizer.decode(best.tolist())

    def forward(self, x, count, goal):
        """Loss of each word of the goal, (phrases, requests, words); x is (phrases, length, width)."""
        requests = len(self.queries)
        past = [(self.spread(k, count), self.spread(v, count)) for k, v in self.past]
        tail = self.model.embedding[torch.cat([self.after, goal])].expand(count, -1, -1)
        x = torch.cat([x, tail], 1).repeat_interleave(requests, 0)
        states = self.model.hidden(x, past)[0][:, -len(goal) - 1 : -1]
        logits = self.model.head(states).transpose(1, 2)
        wanted = goal.expand(len(x), -1)
        return functional.cross_entropy(logits, wanted, reduction="none").view(count, requests, -1)

    def spread(self, kept, count):
        """The requests' keys or values once for each phrase."""
        return kept.repeat(count, 1, 1, 1)

    def slopes(self, trigger, goal):
        """Gradient (words, vocabulary) by each place's one-hot word.

        A soft maximum over the goal's words makes the hardest word count most.
        """
        onehot = functional.one_hot(trigger, len(self.model.embedding)).float().requires_grad_()
        losses = self.forward((onehot @ self.model.embedding)[None], 1, goal)
        losses.logsumexp(-1).mean().backward()
        return onehot.grad

    @torch.no_grad()
    def losses(self, tries, goal):
        """Mean loss of each phrase."""
        return self.forward(self.model.embedding[tries], len(tries), goal).mean((1, 2))
