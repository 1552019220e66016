"""The commands of ``distill-train``, by topic; what they do is done by the folders beside this one."""

from distill_app_trainer.commands.command import Command
from distill_app_trainer.commands.data import DATA
from distill_app_trainer.commands.info import COMPLETION, EXAMPLES, SCHEMA
from distill_app_trainer.commands.merge import MERGE
from distill_app_trainer.commands.new import NEW
from distill_app_trainer.commands.plan import PLAN
from distill_app_trainer.commands.run import CACHE, QUICKSTART, RESUME, RUN
from distill_app_trainer.commands.runs import LIST, REPORT

COMMANDS: dict[str, Command] = {
    "quickstart": QUICKSTART,
    "run": RUN,
    "plan": PLAN,
    "resume": RESUME,
    "cache": CACHE,
    "list": LIST,
    "report": REPORT,
    "data": DATA,
    "new": NEW,
    "merge": MERGE,
    "schema": SCHEMA,
    "examples": EXAMPLES,
    "completion": COMPLETION,
}
