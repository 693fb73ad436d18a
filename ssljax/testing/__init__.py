"""Tests for methods and wrappers, including those in other packages."""

from ssljax.testing.checks import CHECKS, check_method

__all__ = ["CHECKS", "check_method"]
