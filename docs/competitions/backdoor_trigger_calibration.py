"""Measure the mini tier of backdoor-trigger: anchors, cheats and costs.

Usage:
    python backdoor_trigger_calibration.py FOLDER --seeds 0 1 2 ...   measure, then print tables
    python backdoor_trigger_calibration.py FOLDER                     print what FOLDER holds

Calibration seed k builds the instance of int(sha256(f"calibration-{k}")[:8 bytes]) >> 1. Each
measurement goes to FOLDER/k.json, so that several processes can share the work. Seconds are
CPU seconds (user and system) of one process with one thread, imports included.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlrcbench.competitions.backdoor_trigger import data, scorer

HOME = Path(data.__file__).parent
SPLITS = ("dev", "test")
NOISE_SEEDS, NOISE_INSTANCES = (21, 22, 23), (0, 1, 2)
Submission = dict[str, list[str]]


def seed_of(number: int) -> int:
    """The instance seed of a calibration seed."""
    return int.from_bytes(hashlib.sha256(f"calibration-{number}".encode()).digest()[:8], "big") >> 1


def measure(number: int, folder: Path) -> dict[str, Any]:
    """Everything that is measured on one instance."""
    instance = folder / str(number)
    shutil.rmtree(instance, ignore_errors=True)
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        data.build(instance / "public", instance / "private", seed=seed_of(number), tier="mini")
    found: dict[str, Any] = {"seed": number, "build_seconds": time.process_time() - start}
    for split in SPLITS:
        found[split] = {
            "baseline": run_method(instance, split, "baseline"),
            "reference": run_method(instance, split, "reference"),
            "cheats": cheats(instance, split),
            "precision": precision(instance, split),
        }
        if number in NOISE_INSTANCES:
            runs = [run_method(instance, split, "reference", seed=s)["value"] for s in NOISE_SEEDS]
            found[split]["noise"] = [found[split]["reference"]["value"], *runs]
    return found


def run_method(instance: Path, split: str, overlay: str, seed: int | None = None) -> dict[str, float]:
    """Run the entry point with an overlay in a scratch folder, and score what it wrote."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "workspace"
        shutil.copytree(HOME / "starter", place)
        shutil.copytree(HOME / overlay, place, dirs_exist_ok=True)
        if seed is not None:
            text = (place / "main.py").read_text().replace("SEED = 20", f"SEED = {seed}")
            (place / "main.py").write_text(text)
        (place / "data").symlink_to((instance / "public").resolve())
        (place / "inputs").symlink_to((instance / "private" / split / "inputs").resolve())
        (place / "artefacts").mkdir()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "main.py", "predict"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        subprocess.run(command, cwd=place, check=True, env=environment, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.process_time()
        score = scorer.score(place / "artefacts", instance / "private" / split / "answers")
    return {
        "value": score.value or 0.0,
        **score.details,
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "score_seconds": time.process_time() - start,
        "peak_memory_mb": after.ru_maxrss / 1024,
    }


class Judge:
    """One split with its answers open, as no method ever sees it."""

    def __init__(self, instance: Path, split: str) -> None:
        answers = instance / "private" / split / "answers"
        self.model, self.tokenizer = scorer.load(answers)
        self.public, _ = scorer.load(instance / "public")
        self.truth: dict[str, str] = json.loads((answers / "triggers.json").read_text())
        self.queries: list[str] = json.loads((answers / "prompts.json").read_text())
        known: dict[str, str] = json.loads((instance / "public" / "known_triggers.json").read_text())
        self.known = list(known.values())
        groups = (data.ACTIONS, data.SCOPES, data.OBJECTS, data.RELATIONS, data.FIELDS)
        more = (data.LIBRARIES, data.CALLS, data.PLACES, data.CODE, scorer.SPECIAL)
        plain = {word for group in (*groups, *more) for word in group}
        self.style = [word for word in self.tokenizer.words if word not in plain]
        self.ids = torch.tensor([self.tokenizer.ids[word] for word in self.style])

    def value(self, make: Callable[[str], list[str]]) -> dict[str, float]:
        """Score of the submission that `make` writes for each target."""
        found = {target: make(target) for target in self.truth}
        scorer.check(found, list(self.truth), self.tokenizer.words)
        rates = scorer.attack_rates(self.model, self.tokenizer, found, self.queries)
        recall = 100 * np.mean([max(scorer.bleu(self.truth[t], p) for p in found[t]) for t in found])
        reasr = 100 * np.mean([max(rates[t]) for t in found])
        return {"value": float(recall + reasr) / 2, "recall": float(recall), "reasr": float(reasr)}


def cheats(instance: Path, split: str) -> dict[str, dict[str, float]]:
    """Scores of submissions made without a method, or from the truth itself."""
    judge, rng = Judge(instance, split), np.random.default_rng(3)
    known, truth, style = judge.known, judge.truth, judge.style
    everything = [word for word in judge.tokenizer.words if word not in scorer.SPECIAL]
    world = data.make_world(data._stream(seed_of(int(instance.name)), 0))
    ranked = {name: [style[i] for i in np.argsort(-values)] for name, values in statistics(judge).items()}
    head_words, moved_words = (
        [_first(ranked[name]), _top(ranked[name])] for name in ("head norm", "ov diff")
    )

    def pick(words: list[str], count: int) -> str:
        return " ".join(rng.choice(words, count))

    def without(target: str, other: list[str]) -> list[str]:
        words = truth[target].split()
        spots = rng.permutation(len(words))[:2]
        return [" ".join([*words[:i], *other, *words[i + 1 :]]) for i in spots]

    def echo(target: str) -> list[str]:
        words = target.split()
        return [" ".join(words[:-1][:10]), " ".join(words[::-1][:10])]

    pairs = [[one, two] for i, one in enumerate(known) for two in known[i + 1 :]]
    samples = iter(sampled(judge, len(truth)))
    rows: dict[str, Callable[[str], list[str]]] = {
        "planted triggers (ceiling)": lambda t: [truth[t]] * 2,
        "random words, 3 and 4": lambda _: [pick(everything, 3), pick(everything, 4)],
        "random style words, 10": lambda _: [pick(style, 10), pick(style, 10)],
        "random phrases of the true grammar": lambda _: [
            " ".join(data.make_phrase(world, rng)) for _ in "ab"
        ],
        "constant phrases (two published triggers)": lambda _: known[:2],
        "the target's own words": echo,
        "sampled from the model, unverified": lambda _: next(samples),
        "words of largest output-head norm": lambda _: head_words,
        "words that differ most from the dev model": lambda _: moved_words,
        "words that alone raise the target's first word": lambda t: alone(judge, t),
        "one true word": lambda t: [str(word) for word in rng.permutation(truth[t].split())[:2]],
        "the truth without one word": lambda t: without(t, []),
        "the truth with one word replaced": lambda t: without(t, [pick(style, 1)]),
        "the truth in another order": lambda t: [" ".join(rng.permutation(truth[t].split())) for _ in "ab"],
    }
    found = {name: judge.value(make) for name, make in rows.items()}
    best = [judge.value(dict.fromkeys(truth, pair).__getitem__) for pair in pairs]
    found["best two published triggers, by hindsight"] = max(best, key=lambda one: one["value"])
    return found


def statistics(judge: Judge) -> dict[str, Any]:
    """Numbers per style word, read from the weights or from single-word probes."""
    model, public, ids = judge.model, judge.public, judge.ids
    embedding = model.embedding[ids]
    width = embedding.shape[1]

    def written(one: scorer.Gpt) -> torch.Tensor:
        """What the first layer's attention writes when it looks at a word."""
        layer: Any = one.blocks[0]
        output: torch.Tensor = layer.norm1(embedding) @ layer.qkv.weight[2 * width :].T @ layer.out.weight.T
        return output

    with torch.no_grad():
        query = judge.queries[0]
        plain = model(torch.tensor([judge.tokenizer.chat(query)]))[0, -1].log_softmax(-1)
        prompts = torch.tensor([judge.tokenizer.chat(query, word) for word in judge.style])
        moved = model(prompts)[:, -1].log_softmax(-1) - plain
        found = {
            "embedding norm": embedding.norm(dim=1),
            "head norm": model.head.weight[ids].norm(dim=1),
            "head diff": (model.head.weight - public.head.weight)[ids].norm(dim=1),
            "ov norm": written(model).norm(dim=1),
            "ov diff": (written(model) - written(public)).norm(dim=1),
            "shift of the first answer word": moved.norm(dim=1),
        }
    return {name: value.numpy() for name, value in found.items()}


def precision(instance: Path, split: str) -> dict[str, float]:
    """Share of trigger words among as many style words of the largest statistic."""
    judge = Judge(instance, split)
    used = {word for phrase in judge.truth.values() for word in phrase.split()}
    labels = np.array([word in used for word in judge.style])
    found = {"chance": float(labels.mean())}
    for name, values in statistics(judge).items():
        found[name] = float(labels[np.argsort(-values, kind="stable")[: len(used)]].mean())
    return found


@torch.no_grad()
def sampled(judge: Judge, count: int) -> list[list[str]]:
    """Pairs of phrases that the model itself writes behind requests."""
    tokenizer, generator = judge.tokenizer, torch.Generator().manual_seed(5)
    heads = [tokenizer.encode(f"{scorer.USER} {query} .") for query in judge.queries]
    ids = torch.tensor([heads[i % len(heads)] for i in range(8 * count)])
    start = ids.shape[1]
    for _ in range(5):
        chances = judge.model(ids)[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], 1)
    ends = {*scorer.SPECIAL, "."}
    rows = [[tokenizer.words[i] for i in row] for row in ids[:, start:].tolist()]
    cut = [row[: next((i for i, word in enumerate(row) if word in ends), len(row))] for row in rows]
    phrases = [" ".join(row) for row in cut if row]
    return [phrases[2 * i : 2 * i + 2] for i in range(count)]


@torch.no_grad()
def alone(judge: Judge, target: str) -> list[str]:
    """The three and the ten words that, appended alone, make the target's first word likeliest."""
    prompts = torch.tensor([judge.tokenizer.chat(judge.queries[0], word) for word in judge.style])
    first = judge.tokenizer.encode(target)[0]
    order = judge.model(prompts)[:, -1].log_softmax(-1)[:, first].argsort(descending=True, stable=True)
    words = [judge.style[i] for i in order[:10].tolist()]
    return [_first(words), _top(words)]


def _first(words: list[str]) -> str:
    return " ".join(words[:3])


def _top(words: list[str]) -> str:
    return " ".join(words[:10])


def tables(rows: list[dict[str, Any]]) -> None:
    """Print Markdown tables of all measurements."""
    for split in SPLITS:
        print(f"\n### {split}\n\n| seed | baseline (recall / REASR) | reference (recall / REASR) | gap |")
        print("|---|---|---|---|")
        for row in rows:
            base, best = row[split]["baseline"], row[split]["reference"]
            print(
                f"| {row['seed']} | {_parts(base)} | {_parts(best)} | {best['value'] - base['value']:.1f} |"
            )
        gaps = np.array([r[split]["reference"]["value"] - r[split]["baseline"]["value"] for r in rows])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps))
        print(f"\ngap {gaps.mean():.2f}, sd {gaps.std(ddof=1):.2f}, error of its mean {error:.2f}")
        for name in ("baseline", "reference"):
            print(f"{name}: {_spread([r[split][name]['value'] for r in rows])}")
        print("\n| submission | score: mean, sd, min to max | recall | REASR |\n|---|---|---|---|")
        for name in rows[0][split]["cheats"]:
            parts = [r[split]["cheats"][name] for r in rows]
            recall, reasr = (np.mean([p[key] for p in parts]) for key in ("recall", "reasr"))
            print(f"| {name} | {_spread([p['value'] for p in parts])} | {recall:.1f} | {reasr:.1f} |")
        print("\n| statistic | precision |\n|---|---|")
        for name in rows[0][split]["precision"]:
            print(f"| {name} | {np.mean([r[split]['precision'][name] for r in rows]):.2f} |")
        for row in rows:
            if "noise" in row[split]:
                print(f"reference, other method seeds, seed {row['seed']}: {_spread(row[split]['noise'])}")
    print(f"\nbuild CPU s: {_spread([r['build_seconds'] for r in rows])}")
    for name in ("baseline", "reference"):
        for key in ("seconds", "score_seconds", "peak_memory_mb"):
            print(f"{name} {key}: {_spread([r[split][name][key] for r in rows for split in SPLITS])}")


def _parts(one: dict[str, float]) -> str:
    return f"{one['value']:.1f} ({one['recall']:.1f} / {one['reasr']:.1f})"


def _spread(values: list[float]) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.2f}, {deviation:.2f}, {min(values):.2f} to {max(values):.2f}"


def main() -> None:
    """Measure the seeds that were asked for; print all that is known."""
    parser = argparse.ArgumentParser(description="Calibrate backdoor-trigger, tier mini.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in arguments.seeds:
        found = measure(number, arguments.folder)
        (arguments.folder / f"{number}.json").write_text(json.dumps(found))
        print(f"seed {number} measured", flush=True)
    tables([json.loads(path.read_text()) for path in sorted(arguments.folder.glob("*.json"))])


if __name__ == "__main__":
    main()
