"""A CSV file with three classes, and the dataset folder made from it."""

from ssljax.data.sources import build

LABELS = ("fine", "rude", "spam")


def write_csv(path, n=60, names=LABELS, first=0):
  lines = ["say,verdict,kind"]
  for i in range(first, first + n):
    lines.append(f"text number {i},{names[i % len(names)]},made")
  path.write_text("\n".join(lines) + "\n")
  return path


def make(source, output, **more):
  columns = {"text": "say", "label": "verdict", "category": "kind"}
  return build.build_from_files(str(source), output, columns, LABELS, **more)
