"""The reference without leaked phrases: gradient search on several requests, from published triggers."""

import json
from pathlib import Path

import torch

from model import attack_rate
from search import Search

PROMPTS, STARTS, GOOD = 4, 4, 0.95  # as in the reference


def recover(model, tokenizer, targets, prompts):
    """The two best phrases for each target; starter/method.py describes arguments and result."""
    shapes = list(json.loads(Path("data/known_triggers.json").read_text()).values())
    context, triggers = Search(model, tokenizer, prompts[:PROMPTS]), {}
    for number, target in enumerate(targets, 1):
        pool = {}
        for _ in range(STARTS):
            phrase = context.run(target, shapes[int(torch.randint(len(shapes), ()))])
            pool[phrase] = attack_rate(model, tokenizer, phrase, target, prompts)
            if pool[phrase] >= GOOD:
                break
        best = sorted(pool, key=pool.get, reverse=True)
        triggers[target] = (best * 2)[:2]
        print(f"{number}/{len(targets)} {pool[best[0]]:.2f} {best[0]}", flush=True)
    return triggers
