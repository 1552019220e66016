"""``distill-hwdetect``: the machine and the policy for a model, as a table or as JSON.

Exit codes: 0 success; 1 ``doctor`` found something broken; 2 the command line, the model, the recording or an
override is wrong; 3 the model does not fit.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import distill_hwdetect
from distill_hwdetect.decision import choose_policy
from distill_hwdetect.detection import detect, observe
from distill_hwdetect.doctor import diagnose
from distill_hwdetect.errors import ArgumentError, HardwareError, ProfileError
from distill_hwdetect.interpretation import profile_from_recorded
from distill_hwdetect.models import read_model_facts
from distill_hwdetect.policy import POLICY_FIELDS, Requirements, check_field
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.recording import record
from distill_hwdetect.tables import diagnosis, explanation, overview, rules_page
from distill_hwdetect.tasks import task_of

DONE, BROKEN, WRONG, WOULD_NOT_FIT = 0, 1, 2, 3
# The model of the table that is printed without --model: SmolLM2-135M.
_EXAMPLE = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.version:
        print(f"distill-hwdetect {distill_hwdetect.__version__}")
        return DONE
    commands = {"record": _record, "doctor": _doctor, "explain": _explain, "rules": _rules}
    try:
        return commands.get(options.command, _plan)(options)
    except HardwareError as error:
        print(f"distill-hwdetect: {error}", file=sys.stderr)
        return WRONG


def _plan(options: argparse.Namespace) -> int:
    profile, requirements = _profile(options), _requirements(options)
    policy = choose_policy(profile, requirements)
    if options.json:
        print(json.dumps({"profile": profile.to_dict(), "policy": policy.to_dict()}, indent=1))
    else:
        print(overview(profile, requirements, policy, example=options.command is None))
    return DONE if options.command is None or policy.memory.fits else WOULD_NOT_FIT


def _explain(options: argparse.Namespace) -> int:
    check_field(options.field, argument="field")
    policy = choose_policy(_profile(options), _requirements(options))
    choice = policy.choice(options.field)
    print(json.dumps(choice.to_dict(), indent=1) if options.json else explanation(options.field, policy))
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    findings = diagnose(_profile(options))
    if options.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        print(diagnosis(findings))
    return BROKEN if any(finding.broken for finding in findings) else DONE


def _record(options: argparse.Namespace) -> int:
    if options.profile is not None:
        raise ProfileError(
            "record describes this machine, and --profile names another one. Leave --profile out.",
            field="profile",
            found=options.profile,
        )
    raw = observe(probe="deep" if options.deep else "fast")
    print(json.dumps(record(raw, version=distill_hwdetect.__version__), indent=1))
    return DONE


def _rules(options: argparse.Namespace) -> int:
    del options
    print(rules_page())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-hwdetect",
        description="Describe this machine, decide how a language model should run on it, and explain why.",
        epilog="exit codes: 0 success; 1 doctor found something broken; 2 the command line, the model, the "
        "recording or an override is wrong; 3 the model does not fit",
    )
    common = argparse.ArgumentParser(add_help=False)
    for one, default in ((parser, None), (common, argparse.SUPPRESS)):
        # SUPPRESS keeps the subcommand's absent option from undoing the one before it.
        one.add_argument(
            "--json", action="store_true", default=default or False, help="print JSON instead of a table"
        )
        one.add_argument(
            "--profile",
            metavar="FILE",
            default=default,
            help="use the recorded machine in FILE instead of this one",
        )
        one.add_argument(
            "--deep",
            action="store_true",
            default=default or False,
            help="import torch and time small matrix products; takes some seconds",
        )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    planner = commands.add_parser(
        "plan", parents=[common], help="decide how one model runs here; exits with 3 if it does not fit"
    )
    _add_model(planner, required=True)
    explainer = commands.add_parser(
        "explain", parents=[common], help="explain one field of the policy in full"
    )
    explainer.add_argument("field", metavar="FIELD", help=f"one of {', '.join(POLICY_FIELDS)}")
    _add_model(explainer, required=False)
    commands.add_parser("record", parents=[common], help="print this machine as an anonymous recording")
    commands.add_parser("doctor", parents=[common], help="list what is missing or mismatched, with fixes")
    commands.add_parser("rules", help="print the decision table as Markdown")
    return parser


def _add_model(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--model", required=required, metavar="PATH", help="a model folder or its config.json"
    )
    parser.add_argument(
        "--task",
        choices=("causal", "seq2seq", "masked"),
        help="task of the model (default: what its config.json says)",
    )
    parser.add_argument(
        "--teacher", metavar="PATH", help="folder or config.json of the teacher, in distillation"
    )
    parser.add_argument("--train", action="store_true", help="train the model (default: only run it)")
    parser.add_argument(
        "--adapter",
        choices=("auto", "full", "lora", "qlora"),
        default="auto",
        help="what is trained (default: auto)",
    )
    parser.add_argument("--batch", type=int, default=8, help="examples per optimizer step (default: 8)")
    parser.add_argument("--source-length", type=int, default=128, help="tokens of an input (default: 128)")
    parser.add_argument("--target-length", type=int, default=128, help="tokens of an output (default: 128)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field of the policy; may be repeated",
    )


def _profile(options: argparse.Namespace) -> HardwareProfile:
    file = options.profile
    if file is None:
        return detect(probe="deep" if options.deep else "fast")
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{file} cannot be read as JSON: {error}.", field="profile", found=file) from error
    if not isinstance(content, dict):
        raise ProfileError(f"{file} does not hold a JSON object.", field="profile", found=file)
    if isinstance(content.get("profile"), dict):
        content = content["profile"]
    return (
        HardwareProfile.from_dict(content) if "schema_version" in content else profile_from_recorded(content)
    )


def _requirements(options: argparse.Namespace) -> Requirements:
    if getattr(options, "model", None) is None:
        return Requirements(task="causal", model=read_model_facts(_EXAMPLE))
    model = read_model_facts(options.model)
    return Requirements(
        task=options.task or model.task or task_of(options.model),
        model=model,
        training=options.train,
        teacher=None if options.teacher is None else read_model_facts(options.teacher),
        effective_batch=options.batch,
        source_length=options.source_length,
        target_length=options.target_length,
        adapter=options.adapter,
        overrides=dict(_override(text) for text in options.set),
    )


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(f"--set takes FIELD=VALUE, found {text!r}.", field="set", found=text)
    return name.strip(), int(value) if value.strip().isdigit() else value.strip()
