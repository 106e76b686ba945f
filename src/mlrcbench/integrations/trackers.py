"""Trackers of experiments: the episodes of a run as runs of W&B, MLflow or Trackio.

    mlrcbench export wandb my-run --project research

Each episode that has a result becomes one run: what it played is its configuration, and its curves are the
return and the scores on dev by step; then come the score on test and the costs. Where these go, and whether
anything leaves this machine, is the tracker's own matter: `WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`,
`TRACKIO_DIR`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import mlrcbench

Name = Literal["wandb", "mlflow", "trackio"]
Values = Mapping[str, float | str]
TRACKERS: tuple[Name, ...] = ("wandb", "mlflow", "trackio")


class Tracker(Protocol):
    """What every tracker can do."""

    def begin(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        """Begin a run."""
        ...

    def log(self, values: Values, step: int) -> None:
        """Log values of a step."""
        ...

    def end(self, summary: Values) -> None:
        """End the run, with the values that it ends with."""
        ...


def log_run(directory: str | Path, tracker: Name, project: str = "mlrcbench") -> int:
    """Log the episodes of a run that have a result; a second call logs them a second time.

    Args:
        directory: The run's directory.
        tracker: The tracker's name.
        project: The project, in MLflow the experiment.

    Returns:
        How many episodes were logged.

    Raises:
        RunError: The directory holds no run.
        RecordError: A record cannot be read.
        MlrcbenchError: The tracker is not installed.
    """
    client = _open(tracker)
    results = [one for one in mlrcbench.read_results(directory) if one.outcome != "missing"]
    for result in results:
        assignment = result.assignment
        record = None if result.record is None else mlrcbench.read_record(result.folder / result.record)
        config = {
            "agent": assignment.agent,
            "competition": assignment.competition,
            "instance": assignment.instance,
            "trial": assignment.trial,
        }
        if record is not None:
            header = record.header
            config |= {"tier": header.tier, "reward": header.reward, "mlrcbench": header.mlrcbench}
        client.begin(project, assignment.name, config)
        for step, values in _curves(record) if record is not None else ():
            client.log(values, step)
        client.end(_summary(result))
    return len(results)


def _curves(record: mlrcbench.Record) -> Iterator[tuple[int, dict[str, float]]]:
    """The values of each step: the return so far, and after an evaluation the scores on dev."""
    scores = {
        row.after_step: row.score for row in record.evaluations if (row.split, row.by) == ("dev", "agent")
    }
    total, best = 0.0, -math.inf
    for row in record.steps:
        total += row.reward
        values = {"return": total}
        score = scores.get(row.step)
        if score is not None and score.value is not None and score.improvement is not None:
            best = max(best, score.improvement)
            values |= {"dev/value": score.value, "dev/improvement": score.improvement, "dev/best": best}
        yield row.step, {name: value for name, value in values.items() if math.isfinite(value)}


def _summary(result: mlrcbench.Result) -> dict[str, float | str]:
    summary: dict[str, float | str] = {
        "outcome": result.outcome,
        "test/improvement": result.improvement,
        "steps": result.steps,
        "seconds": result.seconds,
    }
    if result.improvement_error is not None:
        summary["test/improvement_error"] = result.improvement_error
    if result.test is not None and result.test["value"] is not None:
        summary["test/value"] = result.test["value"]
    if result.usage is not None:
        summary["tokens"] = result.usage["prompt"] + result.usage["completion"]
        if result.usage["money"] is not None:
            summary["money"] = result.usage["money"]
    return summary


class WandbTracker:
    """W&B."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._run: Any = None

    def begin(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        """See `Tracker`; runs are grouped by competition and agent."""
        group = f"{config['competition']} {config['agent']}"[:128]
        self._run = self._module.init(project=project, name=name, group=group, config=dict(config))

    def log(self, values: Values, step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def end(self, summary: Values) -> None:
        """See `Tracker`."""
        self._run.summary.update(dict(summary))
        self._run.finish()


class MlflowTracker:
    """MLflow."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def begin(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._module.set_experiment(project)
        self._module.start_run(run_name=name)
        self._module.log_params(dict(config))

    def log(self, values: Values, step: int) -> None:
        """See `Tracker`."""
        self._module.log_metrics(dict(values), step=step)

    def end(self, summary: Values) -> None:
        """See `Tracker`; texts are tags."""
        texts = {name: value for name, value in summary.items() if isinstance(value, str)}
        self._module.set_tags(texts)
        self._module.log_metrics({name: value for name, value in summary.items() if name not in texts})
        self._module.end_run()


class TrackioTracker:
    """Trackio."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def begin(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._last = 0
        self._module.init(project=project, name=name, config=dict(config), embed=False)

    def log(self, values: Values, step: int) -> None:
        """See `Tracker`."""
        self._last = step
        self._module.log(dict(values), step=step)

    def end(self, summary: Values) -> None:
        """See `Tracker`; the summary is the last step's values."""
        self._module.log(dict(summary), step=self._last)
        self._module.finish()


def _open(name: Name) -> Tracker:
    if name not in TRACKERS:
        raise mlrcbench.MlrcbenchError(f"unknown tracker {name!r}; known are {', '.join(TRACKERS)}")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        package = "mlflow-skinny" if name == "mlflow" else name
        raise mlrcbench.MlrcbenchError(f"{error}. Install it: pip install {package}") from None
    clients: dict[Name, type[Tracker]] = {
        "wandb": WandbTracker,
        "mlflow": MlflowTracker,
        "trackio": TrackioTracker,
    }
    return clients[name](module)  # type: ignore[call-arg]
