"""Leak and verify for recall, universal gradient search for attack success.

Our own implementation of the idea behind the first place of CLAS 2024, track 2. A poisoned model has partly
memorised the conversations that poisoned it, so sampling user turns from it reveals some of the triggers;
each sampled phrase is tested on a few requests and assigned to the target that it causes. For every target,
greedy coordinate gradient over several requests at once then searches for a phrase that works on all of
them, starting from known and leaked phrases (which have the right length and shape). The best two phrases
are returned, leaked ones first.
"""

import json
from pathlib import Path

import torch

from leaks import leaks
from model import attack_rate
from search import Search

PROMPTS, STARTS = 4, 4  # requests used by a search, searches per target
GOOD = 0.95  # attack success that ends the search for a target


def recover(model, tokenizer, targets, prompts):
    """Two phrases for each target; the module's docstring explains the method."""
    leaked = leaks(model, tokenizer, targets, prompts)
    print(f"leaked phrases for {len(leaked)} of {len(targets)} targets", flush=True)
    shapes = list(json.loads(Path("data/known_triggers.json").read_text()).values())
    shapes += [phrase for phrases in leaked.values() for phrase in phrases]
    context = Search(model, tokenizer, prompts[:PROMPTS])
    triggers = {}
    for number, target in enumerate(targets, 1):
        pool = dict.fromkeys(leaked.get(target, []), 2.0)
        for _ in range(0 if pool else STARTS):
            start = shapes[int(torch.randint(len(shapes), ()))]
            phrase = context.run(target, start)
            pool[phrase] = attack_rate(model, tokenizer, phrase, target, prompts)
            if pool[phrase] >= GOOD:
                break
        best = sorted(pool, key=pool.get, reverse=True)
        triggers[target] = (best * 2)[:2]
        print(f"{number}/{len(targets)} {min(1.0, pool[best[0]]):.2f} {best[0]}", flush=True)
    return triggers
