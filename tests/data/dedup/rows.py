"""Rows for the tests of duplicates."""

LONG = "a loaf of bread is baked in a hot oven for about forty minutes or more"


def row(id, text, response=None, views=()):
  views = [{"kind": k, "text": t, "response": r, "origin": ""} for k, t, r in views]
  return {"id": id, "text": text, "response": response, "label": 0, "views": views}
