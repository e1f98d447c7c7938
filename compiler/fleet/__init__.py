"""Many compiles as one campaign: a file that says which, a plan of what is missing, and a run that goes on where it was stopped."""

from compiler.fleet.campaign import Campaign, exit_code
from compiler.fleet.file import Entry, read_fleet
from compiler.fleet.plan import Plan, make_plan

__all__ = ["Campaign", "Entry", "Plan", "exit_code", "make_plan", "read_fleet"]
