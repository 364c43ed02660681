"""The demo: a plausible week of a mid-size organisation, made through the same intake and commands as in production.

`week.py` is the script (what happens when), `stage.py` plays it under a simulated clock, and lets it live on.
"""

from api.demo.stage import open_demo

__all__ = ["open_demo"]
