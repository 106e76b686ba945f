"""The full tier: the competition's two poisoned models, its pairs, and its requests.

The starter kit has everything except the models: 100 requests and, since the competition has ended, the
planted phrases of both phases. As in the paper, the requests are shuffled and halved. Methods see the
first half, which is also used to judge dev; the other half is used to judge test. The five pairs of dev
are published, as they were in the competition, so dev can only show how well a method rediscovers them.

A model is linked into the instance, not copied. An index that names missing files, and a file that is
shorter than its header says, are reported here and not in the middle of an episode.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mlrcbench.errors import DataError
from mlrcbench.sources.raw import find, link

SHUFFLE_SEED = 42  # MLRC-Bench's preparation script
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
OPTIONAL = ("generation_config.json", "special_tokens_map.json", "added_tokens.json")
AGAIN = "Fetch the repository again, or complete the folder that --data names"


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance.

    Args:
        raw: Holds `starter-kit/`, `model-dev/` and `model-test/`, the sources of the card.
        public: Receives the dev model in `model/`, `targets.json`, `known_triggers.json` and `prompts.json`.
        private: Receives for each split `inputs/` of the same form, without the known triggers, and
            `answers/` with the model, `triggers.json` and the requests for judging.

    Raises:
        DataError: A file is missing, damaged, or has wrong content.
    """
    kit = raw / "starter-kit"
    public_requests, hidden_requests = halves(read_requests(find(kit, "train.json")))
    splits = {
        "dev": (read_pairs(find(kit, "ref/trigger_gt.json")), public_requests),
        "test": (read_pairs(find(kit, "track-2/trigger_gt.json|track 2/trigger_gt.json")), hidden_requests),
    }
    for split, (pairs, judging) in splits.items():
        files = model_files(raw / f"model-{split}")
        inputs, answers = (private / split / part for part in ("inputs", "answers"))
        for folder in (public, inputs) if split == "dev" else (inputs,):
            files = link_model(files, folder / "model")
            _write(folder / "targets.json", list(pairs))
            _write(folder / "prompts.json", public_requests)
        link_model(files, answers / "model")
        _write(answers / "triggers.json", pairs)
        _write(answers / "prompts.json", judging)
        print(f"backdoor-trigger: {len(pairs)} targets and the model of {split}", flush=True)
    _write(public / "known_triggers.json", splits["dev"][0])


def halves(requests: list[str]) -> tuple[list[str], list[str]]:
    """The requests that methods see, and the other half, as MLRC-Bench's preparation script draws them."""
    order = list(range(len(requests)))
    random.Random(SHUFFLE_SEED).shuffle(order)
    middle = len(order) // 2
    return [requests[i] for i in order[:middle]], [requests[i] for i in order[middle:]]


def read_requests(path: Path) -> list[str]:
    """Read the field `text` of each line.

    Raises:
        DataError: A line has no text, or there are fewer than two lines.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        requests = [row["text"].strip() for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} must have one object with a text in each line ({error!r})") from error
    if len(requests) < 2 or not all(requests):
        raise DataError(f"{path} must have at least two requests, none of them empty")
    return requests


def read_pairs(path: Path) -> dict[str, str]:
    """Read the planted phrase of each target.

    Raises:
        DataError: The file has other content.
    """
    pairs = _read(path)
    texts = [text for pair in pairs.items() for text in pair]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{path} must map each target to its trigger, and no text may be empty")
    return pairs


def model_files(source: Path) -> list[Path]:
    """Check a model's files, and return those that are used.

    Raises:
        DataError: A file is missing or damaged, or it is another kind of model.
    """
    folder = find(source, "config.json").parent
    config = _read(folder / "config.json")
    if config.get("model_type") != "qwen2" or not isinstance(config.get("eos_token_id"), int):
        raise DataError(
            f"{folder / 'config.json'} must be that of a Qwen2 model with one eos_token_id, and has the "
            f"model_type {config.get('model_type')!r} and the eos_token_id {config.get('eos_token_id')!r}"
        )
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}. {AGAIN}")
    optional = [folder / name for name in (*OPTIONAL, INDEX) if (folder / name).is_file()]
    return [*(folder / name for name in NEEDED), *optional, *_weights(folder)]


def link_model(files: list[Path], folder: Path) -> list[Path]:
    """Link a model's files into a new folder; return the new names.

    The next folder is linked to this one, so that raw data on another disk is copied only once.
    """
    folder.mkdir()
    for file in files:
        link(file, folder / file.name)
    return [folder / file.name for file in files]


def _weights(folder: Path) -> list[Path]:
    """The files of a model's weights: those that the index names, or the only one."""
    places: dict[str, str] = {}
    if (folder / INDEX).is_file():
        places = _read(folder / INDEX).get("weight_map", {})
        if not places or not all(name == Path(str(name)).name for name in places.values()):
            raise DataError(f"{folder / INDEX} must say in weight_map which file each tensor is in. {AGAIN}")
    contents = {name: _tensors(folder / name) for name in sorted(set(places.values()) or {SINGLE})}
    missing = [tensor for tensor, name in places.items() if tensor not in contents[name]]
    if missing:
        raise DataError(f"{INDEX} says that {places[missing[0]]} holds {missing[0]}; it does not. {AGAIN}")
    return [folder / name for name in contents]


def _tensors(path: Path) -> set[str]:
    """The names of a file's tensors; only its header is read."""
    if not path.is_file():
        raise DataError(f"{path} is missing. {AGAIN}")
    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise DataError(f"{path} is damaged or incomplete ({error}). {AGAIN}") from error


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}. {AGAIN}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object")
    return content


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
