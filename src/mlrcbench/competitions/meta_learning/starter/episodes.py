"""Images, few-shot tasks and the metric. Protected: this file is restored before every evaluation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass
class Task:
    """One few-shot task.

    Attributes:
        support_images: uint8 (ways * shots, 3, 16, 16).
        support_labels: int64 (ways * shots,), class ids 0 to ways - 1.
        query_images: uint8 (queries, 3, 16, 16).
        query_labels: int64 (queries,), or None where they are hidden.
        ways: Number of classes.
        shots: Labelled images of each class.
    """

    support_images: torch.Tensor
    support_labels: torch.Tensor
    query_images: torch.Tensor
    query_labels: torch.Tensor | None
    ways: int
    shots: int


@dataclass
class Dataset:
    """Labelled images of several domains.

    Attributes:
        images: uint8 (n, 3, 16, 16).
        labels: int64 (n,), class ids; each class belongs to one domain.
        domains: int64 (n,), number of the domain of each image.
    """

    images: torch.Tensor
    labels: torch.Tensor
    domains: torch.Tensor

    def split(self, domains):
        """Two datasets: the images of `domains`, and all others."""
        inside = torch.isin(self.domains, torch.as_tensor(domains))
        return [
            Dataset(self.images[rows], self.labels[rows], self.domains[rows]) for rows in (inside, ~inside)
        ]

    def task(self, generator, ways, shots, queries):
        """A task from a random domain: `shots + queries` (at most 30) images of each of `ways` classes."""
        names = self.domains.unique()
        here = self.domains == names[torch.randint(len(names), (1,), generator=generator)]
        classes = self.labels[here].unique()
        classes = classes[torch.randperm(len(classes), generator=generator)[:ways]]
        rows = []
        for label in classes:
            members = (self.labels == label).nonzero()[:, 0]
            rows.append(members[torch.randperm(len(members), generator=generator)[: shots + queries]])
        rows = torch.stack(rows)
        ids = torch.arange(ways)[:, None]
        support, query = rows[:, :shots].reshape(-1), rows[:, shots:].reshape(-1)
        return Task(
            support_images=self.images[support],
            support_labels=ids.expand(-1, shots).reshape(-1),
            query_images=self.images[query],
            query_labels=ids.expand(-1, queries).reshape(-1),
            ways=ways,
            shots=shots,
        )


def load_dataset(folder):
    """Read the images for meta-training."""
    return Dataset(
        *(torch.from_numpy(np.load(Path(folder) / f"{n}.npy")) for n in ("images", "labels", "domains"))
    )


def load_tasks(folder):
    """Yield the tasks of an evaluation, one after the other."""
    folder = Path(folder)
    support, queries = (np.load(folder / f"{n}_images.npy", mmap_mode="r") for n in ("support", "query"))
    labels = np.load(folder / "support_labels.npy", mmap_mode="r")
    start, begin = 0, 0
    for ways, shots, count in np.load(folder / "tasks.npy").tolist():
        stop, end = start + ways * shots, begin + ways * count
        yield Task(
            support_images=torch.from_numpy(support[start:stop].copy()),
            support_labels=torch.from_numpy(labels[start:stop].copy()),
            query_images=torch.from_numpy(queries[begin:end].copy()),
            query_labels=None,
            ways=ways,
            shots=shots,
        )
        start, begin = stop, end


def normalised_accuracy(truth, predictions, ways):
    """Balanced accuracy, scaled so that guessing scores 0 and no error scores 1."""
    right = (truth == predictions).double()
    recalls = torch.stack([right[truth == label].mean() for label in range(ways)])
    return ((recalls.mean() - 1 / ways) / (1 - 1 / ways)).item()
