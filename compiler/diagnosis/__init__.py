"""What is on this machine, and what is wrong with it for paretoc; it imports no library whose absence it must report."""

from compiler.diagnosis.form import Diagnosis
from compiler.diagnosis.probes import diagnose
from compiler.diagnosis.screen import screen

__all__ = ["Diagnosis", "diagnose", "screen"]
