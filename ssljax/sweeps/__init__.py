"""Sweeps: many training runs as one command, launch/sweep.py."""
