"""Tables of words are cached on disk, and what a kill left there is cleared."""

from ssljax.augment.engines.eda import tables


def test_a_table_is_computed_once_and_the_leftovers_of_kills_are_cleared(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path))
  left = tmp_path / "words" / ".0a1b.0123456789abcdef.json"
  left.parent.mkdir()
  left.touch()
  for compute in (lambda: {"a": 1}, lambda: 1 / 0):
    assert tables.load_table("words", ("key", 1), compute) == {"a": 1}
    assert len(list(left.parent.iterdir())) == 1
  assert not left.exists()
  [file] = left.parent.iterdir()
  file.write_text(file.read_text().replace('"a": 1', '"a": 3'))
  assert tables.load_table("words", ("key", 1), lambda: {"a": 2}) == {"a": 2}
