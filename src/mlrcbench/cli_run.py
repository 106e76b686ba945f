"""The command `mlrcbench run`: one episode, shown as it goes; or a grid of them, into a directory."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

import mlrcbench
from mlrcbench.actions import name_of, parse
from mlrcbench.agents import Step, play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.named import FORMS, REACT, LlmOptions, idea_name, make_agent, react_name
from mlrcbench.agents.react import ReactAgent
from mlrcbench.agents.styles import STYLES
from mlrcbench.card import Card
from mlrcbench.errors import ActionError, RunError
from mlrcbench.llm import Usage
from mlrcbench.progress import Progress
from mlrcbench.runs import Result, leaderboard_table, run
from mlrcbench.sandbox import KINDS
from mlrcbench.table import table

RUN_HELP = "Play an episode, or with --out agents x competitions x instances x trials."


def add_run_options(run: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Those of this command alone; returns the parser."""
    run.add_argument("id", nargs="+", help="a competition's id; several with --out")
    run.add_argument("--tier", default="mini", help="mini or full (default: mini)")
    agents = f"who plays: {', '.join(FORMS)} (default: reference)"
    run.add_argument("--agent", nargs="+", default=["reference"], help=agents)
    run.add_argument("--sandbox", choices=KINDS, default="auto", help="(default: auto)")
    run.add_argument("--instance", type=int, default=0, help="seed of the one instance (default 0)")
    run.add_argument("--seed", type=int, default=0, help="seed of the one reset (default 0)")
    run.add_argument("--records", type=Path, help="folder for the one record")
    run.add_argument("--out", type=Path, help="directory of the run, made or gone on with")
    run.add_argument("--instances", type=int, default=1, help="with --out: how many, from 0 (default 1)")
    run.add_argument(
        "--trials", type=int, default=1, help="with --out: episodes on each instance (default 1)"
    )
    run.add_argument("--jobs", type=int, default=1, help="with --out: episodes at a time (default 1)")
    _add_model_options(run.add_argument_group("language models", "for the agent react"))
    return run


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="its name, as the server knows it")
    group.add_argument("--base-url", help="of an OpenAI-compatible API (default: OpenAI's own)")
    group.add_argument("--key-variable", help="environment variable of the key (default: OPENAI_API_KEY)")
    group.add_argument("--style", choices=STYLES, default="tools", help="how it acts (default: tools)")
    group.add_argument("--idea", type=Path, help="a file with a research idea to try")
    group.add_argument("--token-budget", type=int, help="tokens that an episode may use")
    group.add_argument("--money-budget", type=float, help="US dollars that an episode may cost")
    group.add_argument("--prices", help="a file of prices, before those that are shipped")
    group.add_argument("--context", type=int, help="tokens of the conversation (default: 60000)")
    group.add_argument("--max-tokens", type=int, help="of one reply (default: the server's)")
    group.add_argument("--temperature", type=float, help="of the sampling (default: the server's)")
    group.add_argument("--timeout", type=float, help="seconds for one reply (default: 120)")
    group.add_argument("--retries", type=int, help="of a call that fails (default: 6)")
    group.add_argument("--stream", action="store_true", default=None, help="have replies streamed")


def _read_model_options(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """The agents' names, with the model's in that of `react`; and what is set of `LlmOptions`.

    Raises:
        RunError: The idea cannot be read.
    """
    names = [field.name for field in dataclasses.fields(LlmOptions)]
    given = {name: getattr(options, name, None) for name in names}
    if options.idea is not None:
        try:
            given["ideas"] = {idea_name(options.idea): options.idea.read_text("utf-8")}
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"the idea {options.idea} cannot be read: {error}") from None
    agents = [
        react_name(options.model, options.style, options.idea) if name == REACT and options.model else name
        for name in options.agent
    ]
    return agents, {name: value for name, value in given.items() if value is not None}


def run_command(options: argparse.Namespace) -> int:
    """One episode that is shown as it goes, or with --out all of a grid."""
    options.agent, options.llm = _read_model_options(options)
    if options.out is not None:
        return _run_grid(options)
    if len(options.id) != 1 or len(options.agent) != 1:
        raise RunError("several agents or competitions are a run: name a directory for it by --out DIR")
    return _run_episode(options, options.id[0])


def _run_grid(options: argparse.Namespace) -> int:
    """Status 1 if the infrastructure failed for an episode."""
    bar: tqdm[NoReturn] = tqdm(unit="episode", disable=options.quiet, file=sys.stderr)

    def begin(total: int, done: int) -> None:
        bar.reset(total)
        bar.update(done)

    def tell(result: Result) -> None:
        bar.update()
        if result.outcome != "played":
            bar.write(f"{result.assignment.name}: {result.outcome}: {result.reason}", file=sys.stderr)

    with bar:
        results = run(
            options.agent,
            options.id,
            directory=options.out,
            instances=options.instances,
            trials=options.trials,
            tier=options.tier,
            sandbox=options.sandbox,
            secret=options.secret,
            llm=options.llm,
            jobs=options.jobs,
            on_plan=begin,
            on_result=tell,
        )
    print(leaderboard_table(results))
    return 1 if any(result.outcome == "infrastructure failed" for result in results) else 0


def _run_episode(options: argparse.Namespace, identifier: str) -> int:
    competition = mlrcbench.get_competition(identifier)
    agent = make_agent(options.agent[0], competition, LlmOptions.read(options.llm))
    with Progress(f"preparing {identifier}, instance {options.instance}", quiet=options.quiet) as progress:
        competition.instance(options.instance, options.tier, secret=options.secret, on_progress=progress.say)
    closing = agent if isinstance(agent, ExternalAgent) else contextlib.nullcontext()
    made = mlrcbench.make(
        identifier,
        tier=options.tier,
        sandbox=options.sandbox,
        instances=[options.instance],
        secret=options.secret,
        records=options.records,
    )
    with made as env, closing:
        watch = _Watch(quiet=options.quiet)
        last = play(env, agent, seed=options.seed, on_action=watch.before, on_step=watch.after)
        rows = _summary(options, competition.card, last, watch)
        if isinstance(agent, ReactAgent):
            rows.append(["model", _bill(agent.spent)])
        rows.append(["record", str(env.record)])
        print("\n" + table(["", ""], rows))
    return 0


class _Watch:
    """Shows an episode as it goes: a progress line for each step, then what came of it."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.started = time.monotonic()
        self.dev: dict[str, Any] | None = None
        self._line: Progress | None = None

    def before(self, number: int, action: Any) -> None:
        """A step begins."""
        self._line = Progress(f"step {number}: {_title(action)}", quiet=self.quiet)
        self._line.__enter__()

    def after(self, step: Step) -> None:
        """A step has ended."""
        if self._line is not None:
            self._line.__exit__(None, None, None)
        first = step.observation["text"].splitlines()[0][:150]
        if "score" in step.info:
            self.dev = step.info["score"]
        if not self.quiet:
            print(f"step {step.number}: {_title(step.action)}: {first}", flush=True)


def _title(action: Any) -> str:
    try:
        parsed = parse(action)
    except ActionError:
        return "no action"
    return f"{name_of(parsed)} {getattr(parsed, 'path', getattr(parsed, 'command', ''))}".strip()


def _summary(options: argparse.Namespace, card: Card, last: Step, watch: _Watch) -> list[list[str]]:
    """Rows of the final table."""
    test = last.info["test_score"]
    anchors = card.tier(options.tier).anchors["test"]
    return [
        ["competition", f"{card.id} ({options.tier}, instance {options.instance})"],
        ["agent", options.agent[0]],
        ["dev", _figure(watch.dev, card)],
        ["test", _figure(test, card)],
        ["baseline, test", f"{anchors.baseline.value:.4g}"],
        [f"{anchors.target_kind}, test", f"{anchors.target.value:.4g}"],
        ["return", f"{last.reward:+.3f}"],
        ["steps", str(last.number)],
        ["seconds", f"{time.monotonic() - watch.started:.1f}"],
    ]


def _bill(spent: Usage) -> str:
    """For example "12,345 tokens, 0.0312 US dollars"."""
    money = "no price is known" if spent.money is None else f"{spent.money:.4f} US dollars"
    return f"{spent.tokens:,} tokens{' (estimated)' if spent.estimated else ''}, {money}"


def _figure(score: dict[str, Any] | None, card: Card) -> str:
    if score is None:
        return "not evaluated"
    if score["value"] is None:
        return f"{score['outcome']}: {score['reason']}"
    gain = 100 * score["improvement"]
    unit = "" if card.metric.unit == "1" else f" {card.metric.unit}"
    return f"{score['value']:.4g}{unit}, {gain:+.1f} % of the way to the target"
