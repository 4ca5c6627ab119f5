"""What plugin authors test with: the conformance kit, as ``pytest --genreg NAME`` and as ``genreg check NAME``."""

from genreg.testing.checks import CHECKS, Check, Result, expected_failures, run_check, run_checks

__all__ = ["CHECKS", "Check", "Result", "expected_failures", "run_check", "run_checks"]
