"""Puts this folder's measuring modules where its tests find them: tests cannot import one another, scripts can."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
