"""Options of an episode are declared once, and are the same wherever they are read."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

import mlrcbench
from mlrcbench.cli.options import add_settings, read_settings
from mlrcbench.env.settings import Settings

TIER = mlrcbench.get_competition("_template").card.tier("mini")


def test_every_option_has_a_help_text_and_a_legal_default() -> None:
    """The command line shows the text; the default holds if the option is not given."""
    for option in dataclasses.fields(Settings):
        assert option.metadata["help"]
        assert not option.metadata["choices"] or option.default in option.metadata["choices"]
        assert f"        {option.name}: " in (Settings.__doc__ or "")


def test_options_come_back_as_they_went() -> None:
    """Settings become options by name, and those become equal settings."""
    settings = Settings(budget={"steps": 3}, reward="shaped", clip=(-1.0, 2.0), secret="mine alone")
    assert Settings.read(settings.to_options()) == settings


def test_rules_name_the_whole_budget() -> None:
    """They name the card's budget, with some parts replaced."""
    rules = Settings(budget={"steps": 3}, clip=(-1, 2)).rules(TIER)
    assert (rules.budget.steps, rules.budget.evaluations) == (3, TIER.budget.evaluations)
    assert rules.clip == (-1.0, 2.0)


def test_unknown_options_are_refused() -> None:
    """The error names the nearest option."""
    with pytest.raises(mlrcbench.RegistryError, match="Did you mean 'reward'"):
        Settings.read({"rewards": "sparse"})


def test_the_command_line_reads_every_option() -> None:
    """The options have the same names, in a form that can be typed."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    line = (
        "--tier full --sandbox strong --budget steps=3,seconds=60 --secret public --reward shaped --clip -1 2"
    )
    options = read_settings(parser.parse_args([*line.split(), "--final", "last"]))
    settings = Settings.read(options)
    assert settings == Settings(
        "full", "strong", {"steps": 3, "seconds": 60}, "public", "shaped", (-1.0, 2.0), "last"
    )
    assert read_settings(parser.parse_args([])) == {
        "tier": "mini",
        "sandbox": "auto",
        "reward": "sparse",
        "final": "best",
    }
    for line in ("--budget steps", "--budget steps=many", "--clip 1", "--reward dense"):
        with pytest.raises(SystemExit):
            parser.parse_args(line.split())


def test_a_plan_keeps_every_option_except_a_private_secret() -> None:
    """The JSON types are read back; options of later versions are ignored."""
    settings = Settings(budget={"steps": 3}, clip=(-1.0, 2.0), secret="mine alone")
    data = json.loads(json.dumps(settings.to_json()))
    assert data["secret"] is None
    assert Settings.from_json({**data, "later": 1}) == dataclasses.replace(settings, secret=None)
    assert Settings(secret="public").to_json()["secret"] == "public"


@pytest.mark.parametrize("function", [mlrcbench.ResearchEnv, mlrcbench.run])
def test_help_names_every_option(function: Callable[..., Any]) -> None:
    """Although the function takes them as a dict."""
    parameters = inspect.signature(function).parameters
    for option in dataclasses.fields(Settings):
        assert parameters[option.name].default == option.default
    assert "options" not in parameters
