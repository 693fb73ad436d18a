"""Files, signals and progress: shared by every command."""
