"""The tool's own modules hold no tests, and importing them takes longer than collecting all others."""

from pathlib import Path

collect_ignore = [file.name for file in Path(__file__).parent.glob("*.py") if not file.name.startswith("test_")]
