"""Obfuscations and jailbreak templates used by real attackers."""
