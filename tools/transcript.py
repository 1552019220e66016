"""The quickstart's output in the README, shortened from a real run.

distill-train quickstart 2>&1 | tee benchmarks/results/quickstart.txt
python tools/transcript.py             # writes it into README.md
python tools/transcript.py --check     # exit code 1 when README.md shows something else
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "benchmarks" / "results" / "quickstart.txt"
README = ROOT / "README.md"
BEGIN, END = "<!-- transcript:begin -->", "<!-- transcript:end -->"
POLICY, STEP = re.compile(r" {11}\w"), re.compile(r" {6}\w+: step ")
SHOWN = 4  # lines of the first stage's policy


def shortened(text: str) -> str:
    """The output without its progress lines, and with only a few lines of each policy."""
    lines: list[str] = []
    shown = 0
    for line in text.splitlines():
        if STEP.match(line):
            continue
        if POLICY.match(line):
            shown += 1
            if shown > SHOWN:
                if shown == SHOWN + 1:
                    lines.append("           ...")
                continue
        lines.append(line.rstrip())
    return "\n".join(lines).strip()


def shape(text: str) -> list[str]:
    """The parts that are equal on every machine: stages, systems and comparisons, without figures."""
    kept = []
    for line in shortened(text).splitlines():
        if re.match(r"\[\d|Stage|Model|Data|│ \w|.*(better|difference)|.*exported to|Report|Next", line):
            plain = re.sub(r"-[0-9a-f]{6}(-\d+)?", "", line)
            kept.append(re.sub(r"[-+]?\d[\d.,]*", "#", plain))
    return sorted(kept)


def with_transcript(readme: str, transcript: str) -> str:
    """The README with the transcript in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```text\n{transcript}\n```\n{END}{after}"


def main() -> int:
    """Write the transcript into the README, or check that it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    found = README.read_text(encoding="utf-8")
    right = with_transcript(found, shortened(RECORDED.read_text(encoding="utf-8")))
    if check:
        print(
            "README.md is up to date." if found == right else "README.md differs: python tools/transcript.py"
        )
        return int(found != right)
    README.write_text(right, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
