"""Tests for methods and wrappers, those of other packages included."""

from ssljax.testing.checks import CHECKS, check_method

__all__ = ["CHECKS", "check_method"]
