"""Sessions: `nox` runs every check, `nox -s demo` plays an episode, `nox -l` lists them.

Environments are made by pip; those of the checks that run the library are one and the same.
PyTorch is always its CPU build, pinned; the CUDA build, several gigabytes, is never installed.
"""

import os
import pathlib
import re
import tempfile

import nox

TORCH = "torch==2.13.0+cpu"
DEVELOP = pathlib.Path(".nox/develop/bin").absolute()

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
# Those frameworks that go together are in `develop`, so that `tests` plays them too.
MCP = ("1.30.0", "2.3.0")
OTHER_MCP = f"peer_mcp(version='{MCP[-1]}')"  # the major that `develop` has not
nox.options.sessions = ["lint", "types", "tests", OTHER_MCP, "build", "site"]
# Every framework also has a session with an environment of its own, as users do: `nox -t peers`.
# In CPU seconds on two slow cores, installation + tests: inspect 40 + 21, sdks 32 + 25,
# trl 15 (PyTorch being there) + 24, harbor 48 + 7, mcp 6 + 10, openenv 22 + 37, verifiers 26 + 35.
WITHOUT_TORCH = ("gymnasium", "numpy", "safetensors", "tqdm", "typing-extensions")
TESTING = ("pytest<9.2", "pytest-xdist", "pytest-rerunfailures", "hypothesis")
LINTERS = ("ruff>=0.9", "typos>=1.30")
# MkDocs finds the theme and the docstrings, ruff lays signatures out, selenium opens the pages.
SITE = (
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=1,<2",
    "ruff>=0.9",
    "selenium>=4.20",
)
# What the versions of our dependencies can change: the core without sandboxes, on the template.
CORE = (
    "tests/artefacts",
    "tests/catalog",
    "tests/env",
    "tests/protocol",
    "tests/storage",
    "tests/test_aggregates.py",
    "tests/test_score.py",
    "tests/test_text.py",
)


def install(session: nox.Session, *extras: str) -> None:
    """Install mlrcbench, with extras, beside the CPU build of PyTorch."""
    package = f".[{','.join(extras)}]" if extras else "."
    session.install("--no-compile", TORCH, "-e", package)


def check(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of the environment that `develop` made."""
    path = f"{DEVELOP}{os.pathsep}{os.environ['PATH']}"
    session.run(str(DEVELOP / program), *arguments, external=True, env={"PATH": path})


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run tests in the environment that `develop` made; many wait, so three processes keep two cores busy.

    A test that fails runs once more and is listed as RERUN: a busy machine may be late.
    """
    spread = ("-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder")
    check(session, "pytest", *spread, "--reruns=1", "-rfER", "--durations=10", *arguments, *session.posargs)


@nox.session
def develop(session: nox.Session) -> None:
    """The environment of all checks that run the library."""
    install(session, "dev")


@nox.session
def demo(session: nox.Session) -> None:
    """Play one episode of llm-merging by the scripted reference agent."""
    install(session)
    session.run("mlrcbench", "run", "llm-merging", "--agent", "reference", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, spelling and plain English."""
    session.install(*LINTERS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("typos")
    session.run("python", "-m", "tools.prose")


@nox.session(venv_backend="none", requires=["develop"])
def types(session: nox.Session) -> None:
    """Types, strictly."""
    check(session, "mypy")


@nox.session(venv_backend="none", requires=["develop"])
def tests(session: nox.Session) -> None:
    """All tests but the longest: of units, of what competitions promise, of the documentation."""
    pytest(session)


@nox.session(venv_backend="none", requires=["develop"])
def contract(session: nox.Session) -> None:
    """What every competition promises; a part of `tests`."""
    pytest(session, "tests/contract")


@nox.session(venv_backend="none", requires=["develop"])
def docs(session: nox.Session) -> None:
    """Each example and the code in the documentation run; a part of `tests`."""
    pytest(session, "tests/test_examples.py", "tests/test_docs.py")


@nox.session(requires=["develop"])
def site(session: nox.Session) -> None:
    """The documentation as a site, in `site/`; every link is followed, and every page opened in a browser."""
    session.install("--no-compile", *WITHOUT_TORCH, *SITE)
    session.install("--no-deps", "-e", ".")
    check(session, "python", "-m", "tools.draw_ladders")  # loads the methods, some of which need torch
    session.run("python", "-m", "mkdocs", "build", "--strict", "--quiet", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "-m", "tools.site_check", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def long(session: nox.Session) -> None:
    """The tests that take minutes each, which `tests` leaves out; CONTRIBUTING.md names them."""
    pytest(session, "-m", "long")


@nox.session
def news(session: nox.Session) -> None:
    """A draft of the next version's part of the changelog, from the fragments in `news/`."""
    session.install("towncrier>=24.8")
    session.run("towncrier", "build", "--draft", "--version", "unreleased", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def api(session: nox.Session) -> None:
    """What breaks code that was written for the last version with a tag."""
    check(session, "python", "-m", "tools.api", "--since-last-tag", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def hooks(session: nox.Session) -> None:
    """The hooks of `.pre-commit-config.yaml`, on every file."""
    check(session, "pre-commit", "run", "--all-files", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def coverage(session: nox.Session) -> None:
    """Coverage of the core tests, supervisor included, against a floor for each chapter; slow."""
    check(session, "python", "-m", "tools.coverage_run", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def mutants(session: nox.Session) -> None:
    """Small faults that tests must notice, for example `-- --sample 60 --seed 0`; very slow."""
    check(session, "python", "-m", "tools.mutants", *session.posargs)


@nox.session(venv_backend="none", requires=["develop"])
def fuzz(session: nox.Session) -> None:
    """100,000 random actions and 10,000 hostile workspaces, for example `-- --seed 5000`; takes hours."""
    check(session, "python", "-m", "tests.env.fuzzing", *session.posargs)


@nox.session(python="3.11")
def minimums(session: nox.Session) -> None:
    """The core tests with the lowest versions of the dependencies that are allowed."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    lowest = [re.sub(r"\s*>=\s*([0-9.]+).*", r"==\1", name) for name in project["dependencies"]]
    pins = [TORCH if pin.startswith("torch=") else pin for pin in lowest]
    session.install("--no-compile", *pins, *TESTING, "matplotlib>=3.8")  # `doctor` looks for it
    session.install("--no-deps", "-e", ".")
    # A plugin that comes with the HTTP client of `datasets` uses what pytest has renamed.
    session.run("pytest", "-p", "no:anyio", "-n", "2", "--dist", "loadfile", *CORE, *session.posargs)


def peer(session: nox.Session, name: str, *packages: str) -> None:
    """Test an adapter beside its framework; the template, on which it is tested, needs no torch."""
    session.install("--no-compile", *WITHOUT_TORCH, *TESTING, *packages)
    session.install("--no-deps", "-e", ".")
    tests = sorted(pathlib.Path("tests/integrations").glob(f"test_{name}*.py"))
    session.run("pytest", *map(str, tests), *session.posargs)


@nox.session(tags=["peers"])
def peer_sdks(session: nox.Session) -> None:
    """Agent SDKs play an episode by their own loops."""
    frameworks = ("langchain", "langchain-openai", "smolagents", "openai-agents")
    packages = (*frameworks, "openai", "anthropic", "google-genai")
    peer(session, "sdks", *packages)


@nox.session(tags=["peers"])
def peer_inspect(session: nox.Session) -> None:
    """Inspect evaluates our tasks, and its conformance suite our sandbox."""
    peer(session, "inspect", "inspect_ai>=0.3.280,<0.4", "openai>=3.4")


@nox.session(tags=["peers"])
def peer_trl(session: nox.Session) -> None:
    """TRL trains on our environments."""
    peer(session, "trl", TORCH, "trl>=1.16,<2")


@nox.session(tags=["peers"], python="3.12")
def peer_harbor(session: nox.Session) -> None:
    """Harbor's loader takes our tasks."""
    peer(session, "harbor", "harbor>=0.24,<1")


@nox.session(tags=["peers"])
@nox.parametrize("version", MCP)
def peer_mcp(session: nox.Session, version: str) -> None:
    """A client of MCP plays, with either major of its SDK."""
    peer(session, "mcp", f"mcp=={version}")


@nox.session(tags=["peers"])
def peer_openenv(session: nox.Session) -> None:
    """OpenEnv's client plays, and its checker passes."""
    peer(session, "openenv", "openenv>=0.10,<0.11")


@nox.session(tags=["peers"])
def peer_openreward(session: nox.Session) -> None:
    """OpenReward's client plays."""
    peer(session, "openreward", "openreward>=0.1.160,<0.2")


@nox.session(tags=["peers"])
def peer_verifiers(session: nox.Session) -> None:
    """A verifiers evaluation plays; its harness asks the package index."""
    peer(session, "verifiers", "verifiers>=0.4,<0.5", "uv")


@nox.session(tags=["peers"])
def peer_skyrl(session: nox.Session) -> None:
    """SkyRL's environments for models that write text."""
    peer(session, "skyrl", "skyrl-gym>=0.4,<1")


@nox.session(tags=["peers"])
def peer_trackers(session: nox.Session) -> None:
    """W&B, MLflow and Trackio, by their offline modes."""
    peer(session, "trackers", "mlflow-skinny>=3.5", "trackio>=0.30", "wandb>=0.22")


@nox.session(tags=["peers"])
def peer_ray(session: nox.Session) -> None:
    """Episodes as Ray's actors, and PPO of RLlib on numbers."""
    peer(session, "ray", TORCH, "ray[rllib]>=2.50")


@nox.session(tags=["peers"])
def ray(session: nox.Session) -> None:
    """Runs on a Ray cluster of this machine, a node of which dies."""
    session.install("--no-compile", TORCH, "-e", ".[ray]", *TESTING)
    session.run("pytest", "tests/runs/test_ray_cluster.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel holds what it should and works."""
    session.install("build")
    folder = pathlib.Path(session.create_tmp())
    for old in folder.glob("mlrcbench-*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(folder))
    (wheel,) = folder.glob("*.whl")
    session.install(*WITHOUT_TORCH)
    session.install("--no-deps", "--force-reinstall", str(wheel))
    # The template needs no torch; played from outside of the checkout, it needs the wheel's files. The
    # session's own temporary folder lies in its environment, which agents' code may read.
    with tempfile.TemporaryDirectory() as outside:
        session.chdir(outside)
        run = ("mlrcbench", "run", "_template", "--agent", "reference", "--records", "records")
        session.run(*run, env={"TMPDIR": outside})
