"""The full tier: two fine-tuned Llama-3 models of 8B parameters, judged on six public benchmarks.

The models are those that MLRC-Bench lists; as there, the first is both base model and expert. They are
linked instead of copied, where the disk allows it. Their headers are compared here, and the base model's
header goes to the scorer, which checks submissions against it. No model is loaded before an episode.

Dev questions are the six sets of tinyBenchmarks, 100 each. The labels of the competition's own test file were
never published, so we draw test questions from the sets that the tiny ones were taken from: 200 of each,
none of which is in dev. A few more are published for experiments. Questions are drawn by the hash of their
text: the draw is the same everywhere and does not depend on the order of a file.

A question with choices is `{"choices": [[context, continuation], ...], "answer": index}`. A question with a
number as its answer is `{"context": text, "answer": "18"}`. So the prompts are made here, once, and the
scorer knows nothing about any benchmark. All are zero-shot, except that four worked examples precede each
question of GSM8K.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mlrcbench.artefacts import safetensors_layout
from mlrcbench.errors import DataError, SubmissionError
from mlrcbench.sources.raw import find, link, listing, matches

MODELS = ("instruct-v08", "refueled")  # sources of the experts; the first is the base model
TINY, TEST, SHOWN = 100, 200, 20  # questions of each part: dev, test, published
EXAMPLES = 4  # worked examples before each question of GSM8K
INDEX = "model.safetensors.index.json"
DTYPES = ("BF16", "F16", "F32")
# The parquet files of each part, in both its sources (`tiny-<part>` and `<part>`).
FILES = {
    "arc": "ARC-Challenge/test-*.parquet",
    "hellaswag": "validation-*.parquet",
    "mmlu": "all/test-*.parquet",
    "truthfulqa": "multiple_choice/validation-*.parquet",
    "winogrande": "winogrande_xl/validation-*.parquet",
    "gsm8k": "main/test-*.parquet",
}
GSM8K_TRAIN = "main/train-*.parquet"
Row = Mapping[str, Any]
Question = dict[str, Any]
Layout = dict[str, tuple[str, tuple[int, ...]]]


def convert(raw: Path, public: Path, private: Path) -> None:
    """Write the files of the instance.

    Args:
        raw: Holds a folder for each of MODELS (`config.json`, `tokenizer.json`, safetensors) and, for each
            part of FILES, `<part>/` and `tiny-<part>/` with parquet files.
        public: Receives `models/<name>/` with those files, `models.json` and `known_questions.json`.
        private: Receives for each split `inputs/models.json` and `answers/` with `questions.json`,
            `layout.json`, `config.json` and `tokenizer.json`.

    Raises:
        DataError: A file is missing, damaged, or contradicts another file.
    """
    layouts = [write_model(raw / name, public / "models" / name) for name in MODELS]
    for name, layout in zip(MODELS[1:], layouts[1:], strict=True):
        compare(name, layout, layouts[0])
    base = public / "models" / MODELS[0]
    check_architecture(base, layouts[0])
    parts = {part: draw(raw, part) for part in FILES}
    known = {part: drawn["known"] for part, drawn in parts.items()}
    models = {"base": f"models/{MODELS[0]}", "experts": [f"models/{name}" for name in MODELS]}
    _write_json(public / "models.json", models)
    _write_json(public / "known_questions.json", {"normalised": True, "parts": known})
    for split in ("dev", "test"):
        _write_json(private / split / "inputs" / "models.json", {"split": split, **models})
        answers = private / split / "answers"
        asked = {part: drawn[split] for part, drawn in parts.items()}
        _write_json(answers / "questions.json", {"normalised": split == "dev", "parts": asked})
        _write_json(answers / "layout.json", layouts[0])
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(base / name, answers / name)


def write_model(folder: Path, target: Path) -> Layout:
    """Put a model's files into the instance.

    Returns:
        For each tensor its dtype, by the name that safetensors uses, and its shape.

    Raises:
        DataError: A file is missing or damaged, or contradicts the index.
    """
    target.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", *matches(listing(folder), INDEX)):
        shutil.copyfile(find(folder, name), target / Path(name).name)
    layout: Layout = {}
    for path, names in shards(folder).items():
        try:
            part = safetensors_layout(path)
        except SubmissionError as error:
            raise DataError(f"{path} is damaged ({error}); get it again") from None
        if names is not None and part.keys() != names:
            differences = sorted(part.keys() ^ names)[:3]
            raise DataError(
                f"{path} does not hold what {INDEX} says ({', '.join(differences)}); get both again"
            )
        layout |= part
        link(path, target / path.name)
    invalid = [f"{name} is {dtype}" for name, (dtype, _) in layout.items() if dtype not in DTYPES]
    if invalid or not layout:
        raise DataError(f"{folder}: {(invalid or ['no tensor'])[0]}; weights must be {', '.join(DTYPES)}")
    print(f"llm-merging: {folder.name} has {len(layout)} tensors", flush=True)
    return layout


def shards(folder: Path) -> dict[Path, set[str] | None]:
    """The files of a model's weights, each with the tensors that the index (if any) lists for it.

    Raises:
        DataError: The index names a file that is not next to it.
    """
    if not matches(listing(folder), INDEX):
        return {find(folder, "model.safetensors"): None}
    index = find(folder, INDEX)
    try:
        places = {str(name): str(file) for name, file in _read_json(index)["weight_map"].items()}
    except (KeyError, AttributeError):
        raise DataError(f"{index} has no 'weight_map'; get it again") from None
    contents: dict[Path, set[str] | None] = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file or not (index.parent / file).is_file():
            raise DataError(f"{index} names {file!r}, which is not next to it; get the whole repository")
        contents[index.parent / file] = {name for name, place in places.items() if place == file}
    return contents


def compare(name: str, layout: Layout, base: Layout) -> None:
    """Check that an expert has the base model's names and shapes; its dtype may differ.

    Raises:
        DataError: The names or shapes differ.
    """
    differences = sorted(
        key
        for key in layout.keys() | base.keys()
        if layout.get(key, ("", ()))[1] != base.get(key, ("", ()))[1]
    )
    if differences:
        raise DataError(
            f"{name} and {MODELS[0]} differ in {differences[0]} and {len(differences) - 1} others; "
            "see the revisions"
        )


def check_architecture(folder: Path, layout: Layout) -> None:
    """Check that weights, configuration and tokenizer belong together; no weights are loaded.

    Raises:
        DataError: They do not belong together, or the model is not a Llama.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = _read_json(folder / "config.json")
    if raw.get("model_type") != "llama":
        raise DataError(f"{folder.name} is a {raw.get('model_type')!r} model; it must be a 'llama'")
    try:
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig.from_dict(raw))
        # Added tokens, which a fine-tune may have, are not counted: no question contains them.
        words = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size(with_added_tokens=False)
    except Exception as error:  # these libraries raise many kinds of error for a damaged file
        raise DataError(
            f"config.json or tokenizer.json of {folder.name} cannot be used ({error}); get both again"
        ) from None
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if expected != {name: shape for name, (_, shape) in layout.items()}:
        raise DataError(f"the config.json of {folder.name} is not that of its weights; get both again")
    if len({dtype for dtype, _ in layout.values()}) > 1:
        raise DataError(f"the weights of {folder.name} are of several dtypes; see the revision")
    if words > model.config.vocab_size:
        raise DataError(f"the tokenizer of {folder.name} has {words} words, too many for the model")


def draw(raw: Path, part: str) -> dict[str, list[Question]]:
    """The questions of one part: "dev", "test" and "known", without repetition.

    Raises:
        DataError: A table is missing, damaged, too short, or not the one that the tiny one was taken from.
    """
    tiny = ask(part, rows(raw / f"tiny-{part}", FILES[part]), raw)
    parent = dict(ask(part, rows(raw / part, FILES[part]), raw))
    if len(tiny) != TINY:
        raise DataError(f"tiny-{part} has {len(tiny)} questions; it must have {TINY}")
    keys = {key for key, _ in tiny}
    others = [parent[key] for key in order(part, parent.keys() - keys)]
    shared = len(parent.keys() & keys)
    if 2 * shared < TINY:
        raise DataError(
            f"only {shared} questions of tiny-{part} are in {part}; one of them is another data set"
        )
    if len(others) < TEST + SHOWN:
        raise DataError(f"{part} has {len(others)} questions besides those of dev; {TEST + SHOWN} are needed")
    print(f"llm-merging: {part}: {TEST} of {len(others)} questions for test", flush=True)
    return {
        "dev": [question for _, question in tiny],
        "test": others[:TEST],
        "known": others[TEST : TEST + SHOWN],
    }


def order(part: str, keys: Iterable[str]) -> list[str]:
    """Sort keys by their hashes: the order is the same for everybody and unrelated to the text."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{part}\n{key}".encode()).digest())


def ask(part: str, table: Iterable[Row], raw: Path) -> list[tuple[str, Question]]:
    """The questions of a table, each with the text that identifies it."""
    before = worked_examples(raw) if part == "gsm8k" else ""
    questions: list[tuple[str, Question]] = []
    for place, row in enumerate(table):
        try:
            question = PROMPTS[part](row)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, InvalidOperation) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"row {place} of {part} is not as published ({reason}); get it again") from None
        key = text_of(question)
        if "context" in question:
            question["context"] = before + question["context"]
        questions.append((key, question))
    return questions


def text_of(question: Question) -> str:
    """The whole text of a question, without its answer, and with spaces normalised."""
    pairs = question.get("choices", [[question.get("context", "")]])
    return " ".join(" ".join(text for pair in pairs for text in pair).split())


def worked_examples(raw: Path) -> str:
    """The fixed examples of GSM8K, from its training part."""
    table = {str(row["question"]): str(row["answer"]) for row in rows(raw / "gsm8k", GSM8K_TRAIN)}
    questions = order("examples", table)[:EXAMPLES]
    return "".join(f"Question: {question}\nAnswer: {table[question]}\n\n" for question in questions)


def rows(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The rows of a parquet file.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = find(folder, pattern)
    try:
        table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}); get it again") from None
    return table


def _arc(row: Row) -> Question:
    texts, labels = row["choices"]["text"], list(row["choices"]["label"])
    context = f"Question: {row['question'].strip()}\nAnswer:"
    return _choice([(context, f" {text}") for text in texts], labels.index(row["answerKey"]))


def _hellaswag(row: Row) -> Question:
    context = _plain(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    pairs = [(context, f" {_plain(ending)}") for ending in row["endings"]]
    return _choice(pairs, int(row["label"]))


def _mmlu(row: Row) -> Question:
    letters = "ABCD"
    lines = [f"{letter}. {text}" for letter, text in zip(letters, row["choices"], strict=True)]
    context = "\n".join([row["question"].strip(), *lines, "Answer:"])
    return _choice([(context, f" {letter}") for letter in letters], int(row["answer"]))


def _truthfulqa(row: Row) -> Question:
    texts, labels = row["mc1_targets"]["choices"], list(row["mc1_targets"]["labels"])
    if labels.count(1) != 1 or len(labels) != len(texts):
        raise ValueError("not one true answer")
    pairs = [(f"Q: {row['question'].strip()}\nA:", f" {text}") for text in texts]
    return _choice(pairs, labels.index(1))


def _winogrande(row: Row) -> Question:
    before, after = row["sentence"].split("_")
    pairs = [(before + row[option], f" {after.strip()}") for option in ("option1", "option2")]
    return _choice(pairs, ("1", "2").index(row["answer"]))


def _gsm8k(row: Row) -> Question:
    number = row["answer"].rpartition("####")[2].strip().replace(",", "")
    if not Decimal(number).is_finite():
        raise ValueError(f"the answer is {number}")
    return {"context": f"Question: {row['question'].strip()}\nAnswer:", "answer": number}


PROMPTS: dict[str, Callable[[Row], Question]] = {
    "arc": _arc,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "truthfulqa": _truthfulqa,
    "winogrande": _winogrande,
    "gsm8k": _gsm8k,
}


def _choice(pairs: list[tuple[str, str]], answer: int) -> Question:
    """A question with choices; every context and continuation must contain text."""
    if not 0 <= answer < len(pairs) or not all(a.strip() and b.strip() for a, b in pairs):
        raise ValueError("an empty text, or no such choice")
    return {"choices": [list(pair) for pair in pairs], "answer": answer}


def _plain(text: str) -> str:
    """Remove the marks that WikiHow's pages left in HellaSwag."""
    text = re.sub(r"\[[^\]]*\]", "", text.replace(" [title]", ". "))
    return " ".join(text.split())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); get it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object; get it again")
    return content


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
