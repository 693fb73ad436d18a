"""Series of a plot can be told apart."""

from ssljax.evals import plots


def test_no_two_of_thirty_series_look_alike():
  looks = {str(plots.look(k)) for k in range(30)}
  assert len(looks) == 30
  assert len({plots.look(k)["color"] for k in range(6)}) == 6
  assert len({str(plots.look(k)["linestyle"]) for k in range(6)}) == 6
