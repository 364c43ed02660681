"""CEL without the command line that its package brings along: what that imports for a terminal costs every process 8 MiB."""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel as cel  # noqa: E402  # after its command line was replaced
