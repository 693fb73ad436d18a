"""Where data sets come from, and how they become a dataset folder."""
