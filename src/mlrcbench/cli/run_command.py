"""The command `mlrcbench run`: one episode, shown step by step, or a grid of episodes in a directory."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import mlrcbench
from mlrcbench.agents import Step, play
from mlrcbench.agents.external import ExternalAgent
from mlrcbench.agents.named import (
    FORMS,
    REACT,
    LlmOptions,
    check_ready,
    idea_name,
    is_model,
    is_python,
    make_agent,
    react_name,
)
from mlrcbench.agents.python_object import PythonAgent
from mlrcbench.agents.react import ReactAgent
from mlrcbench.agents.styles import STYLES
from mlrcbench.catalog.card import Card
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.ladder import standing
from mlrcbench.cli.live import EpisodeWatch, RunWatch
from mlrcbench.cli.options import (
    AddCommand,
    a_path,
    add_running_options,
    add_settings,
    count,
    natural,
    read_settings,
)
from mlrcbench.cli.progress import Bar, Progress, say
from mlrcbench.errors import RunError, cause
from mlrcbench.llm import Usage
from mlrcbench.runs import Result, leaderboard_table, run
from mlrcbench.text import percent, table

_WITH_OUT = ("instances", "trials", "jobs", "executor", "ray_address")
_WITHOUT_OUT = ("instance", "seed", "records")
_HELP = "Play an episode, or with --out all agents x competitions x instances x trials."


def add_run_command(add: AddCommand) -> None:
    """Add `run`."""
    run = add("run", _run, _HELP)
    run.add_argument("id", nargs="+", help="a competition's id; several with --out")
    add_settings(run)
    agents = f"who plays: {', '.join(FORMS)} (default: reference)"
    run.add_argument("--agent", nargs="+", default=["reference"], help=agents)
    run.add_argument("--instance", type=natural, help="without --out: seed of the instance (default 0)")
    run.add_argument("--seed", type=natural, help="without --out: seed of the reset (default 0)")
    run.add_argument("--records", type=a_path, help="without --out: folder for the record")
    run.add_argument("--out", type=a_path, help="directory of the run, which is created or continued")
    run.add_argument("--instances", type=count, help="with --out: number of instances, from 0 (default 1)")
    run.add_argument("--trials", type=count, help="with --out: episodes on each instance (default 1)")
    run.add_argument(
        "--jobs", type=count, help="with --out: episodes at a time (default 1; with ray, its number of CPUs)"
    )
    run.add_argument(
        "--executor", choices=("local", "ray"), help="with --out: what runs the episodes (default local)"
    )
    run.add_argument(
        "--ray-address", help="with --out: address of a Ray cluster (default: one is started here)"
    )
    _add_model_options(run.add_argument_group("language models", "for the agent react"))
    add_running_options(run)


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="name of the model, as the server knows it")
    group.add_argument("--base-url", help="address of an OpenAI-compatible API (default: OpenAI's own)")
    group.add_argument("--key-variable", help="environment variable of the key (default: OPENAI_API_KEY)")
    group.add_argument("--style", choices=STYLES, help="how the model acts (default: tools)")
    group.add_argument("--idea", type=a_path, help="a file with a research idea to try")
    group.add_argument("--token-budget", type=count, help="tokens that an episode may use")
    group.add_argument("--money-budget", type=float, help="US dollars that an episode may cost")
    group.add_argument("--prices", help="a file of prices, which is read before the shipped prices")
    group.add_argument(
        "--context", type=count, help="largest size of the conversation in tokens (default: 60000)"
    )
    group.add_argument("--max-tokens", type=count, help="tokens of one reply (default: the server's)")
    group.add_argument(
        "--temperature", type=float, help="temperature of the sampling (default: the server's)"
    )
    group.add_argument("--timeout", type=float, help="seconds for one reply (default: 120)")
    group.add_argument("--retries", type=natural, help="how often a failed call is repeated (default: 6)")
    group.add_argument("--stream", action="store_true", default=None, help="stream the replies")


def _read_model_options(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """The agents' names, with the model's name in that of `react`, and the options of `LlmOptions`.

    Raises:
        RunError: The idea cannot be read, or an option would be ignored.
    """
    _refuse_ignored(options)
    names = [field.name for field in dataclasses.fields(LlmOptions)]
    values = {name: getattr(options, name, None) for name in names}
    if options.idea is not None:
        try:
            values["ideas"] = {idea_name(options.idea): options.idea.read_text("utf-8")}
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"the idea {options.idea} cannot be read: {cause(error)}") from None
    agents = [
        react_name(options.model, options.style or "tools", options.idea)
        if name == REACT and options.model
        else name
        for name in options.agent
    ]
    return agents, {name: value for name, value in values.items() if value is not None}


def _refuse_ignored(options: argparse.Namespace) -> None:
    """Refuse options that have no effect on the agents that are given.

    Raises:
        RunError: There is one.
    """
    shared = [field.name for field in dataclasses.fields(LlmOptions) if field.name != "ideas"]
    reacts, models = REACT in options.agent, any(map(is_model, options.agent))
    for names, needed, agents in (
        (("model", "style", "idea"), reacts, f"--agent {REACT}"),
        (shared, reacts or models, f"--agent {REACT}, or {REACT}:MODEL"),
    ):
        for name in names:
            if getattr(options, name, None) is not None and not needed:
                raise RunError(f"--{name.replace('_', '-')} has no effect without {agents}")


def _run(options: argparse.Namespace) -> int:
    """Play one episode, shown step by step, or with --out a grid of episodes."""
    if any(map(is_python, options.agent)):
        sys.path.append(str(Path.cwd()))
    options.agent, options.llm = _read_model_options(options)
    for name in _WITHOUT_OUT if options.out else _WITH_OUT:
        if getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise RunError(
                f"{flag} is for one episode; leave it out, or leave out --out"
                if options.out
                else f"{flag} needs a directory for the results; give one with --out DIR"
            )
    if options.out is not None:
        return _run_grid(options)
    if len(options.id) != 1 or len(options.agent) != 1:
        raise RunError(
            "several agents or competitions need a directory for their results; give one with --out DIR"
        )
    return _run_episode(options, options.id[0])


def _run_grid(options: argparse.Namespace) -> int:
    """Play a grid of episodes; status 1 if the infrastructure failed in one, also if it was played again."""
    watch = RunWatch(options.out)
    with Bar("episodes", 0, quiet=options.quiet, status=watch.status) as bar:

        def tell(result: Result) -> None:
            watch.end(result.assignment)
            failed = result.outcome != "played"
            line = f"{result.assignment.name}: {result.outcome}{f': {result.reason}' if failed else ''}"
            shown = failed or not (options.quiet or sys.stderr.isatty())
            bar.advance(line if shown else "", error=True)

        results = run(
            options.agent,
            options.id,
            directory=options.out,
            instances=options.instances or 1,
            trials=options.trials or 1,
            llm=options.llm,
            jobs=options.jobs,
            executor=options.executor or "local",
            ray_address=options.ray_address,
            on_plan=lambda total, done: bar.begin_at(done, total),
            on_start=watch.begin,
            on_result=tell,
            **read_settings(options),
        )
    say(leaderboard_table(results))
    return 1 if any(result.infrastructure_failed for result in results) else 0


def _run_episode(options: argparse.Namespace, identifier: str) -> int:
    competition = mlrcbench.get_competition(identifier)
    settings, number = read_settings(options), options.instance or 0
    environment = mlrcbench.make(identifier, instances=[number], records=options.records, **settings)
    llm = LlmOptions.read(options.llm)
    check_ready(options.agent[0], llm)
    agent = make_agent(options.agent[0], competition, llm)
    with Progress(f"preparing {identifier}, instance {number}", quiet=options.quiet) as progress:
        competition.instance(number, options.tier, secret=options.secret, on_progress=progress.say)
    with environment as env, contextlib.ExitStack() as held:
        if isinstance(agent, ExternalAgent | PythonAgent):
            held.callback(agent.close)
        watch = EpisodeWatch(env, quiet=options.quiet)
        with contextlib.closing(watch):
            last = play(env, agent, seed=options.seed or 0, on_action=watch.before, on_step=watch.after)
        rows = _summary(options, competition, last, watch)
        spent = agent.spent if isinstance(agent, ReactAgent | PythonAgent) else None
        if spent is not None:
            rows.append(["model", bill(spent)])
        rows.append(["record", str(env.record)])
        say("\n" + table(["", ""], rows))
    return 0


def _summary(
    options: argparse.Namespace, competition: Competition, last: Step, watch: EpisodeWatch
) -> list[list[str]]:
    """The rows of the final table."""
    card = competition.card
    test = last.info["test_score"]
    anchors = card.tier(options.tier).anchors["test"]
    gain = test["improvement"]
    rung = "" if gain is None else standing(gain, "test", competition.ladder_of(options.tier))
    return [
        ["competition", f"{card.id} ({options.tier}, instance {options.instance or 0})"],
        ["agent", options.agent[0]],
        ["dev", _figure(watch.dev, card)],
        ["test", _figure(test, card)],
        ["baseline, test", f"{anchors.baseline.value:.4g}"],
        [f"{anchors.target_kind}, test", f"{anchors.target.value:.4g}"],
        *([["ladder, test", rung]] if rung else []),
        ["return", f"{last.reward:+.3f}"],
        ["steps", str(last.number)],
        ["seconds", f"{time.monotonic() - watch.started:.1f}"],
    ]


def bill(spent: Usage) -> str:
    """Tokens and costs as text, for example "12,345 tokens, 0.0312 US dollars"."""
    money = "no price is known" if spent.money is None else f"{spent.money:.4f} US dollars"
    return f"{spent.tokens:,} tokens{' (estimated)' if spent.estimated else ''}, {money}"


def _figure(score: dict[str, Any] | None, card: Card) -> str:
    if score is None:
        return "not evaluated"
    if score["value"] is None:
        return f"{score['outcome']}: {score['reason']}"
    gain = percent(score["improvement"], score["improvement_error"])
    unit = "" if card.metric.unit == "1" else f" {card.metric.unit}"
    return f"{score['value']:.4g}{unit}, {gain} of the way to the target"
