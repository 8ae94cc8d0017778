"""A module shared by the tests here and the processes that they disturb."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
