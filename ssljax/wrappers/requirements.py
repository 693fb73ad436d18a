"""Checks that a wrapper supports a method, from the method's `Needs`.

Each function raises a ValueError that completes "WRAPPER can't wrap METHOD: …".
"""

from ssljax.method import Needs
from ssljax.wrappers.recording_forward import voters


def no_mixing(needs: Needs) -> None:
  """For wrappers that use the label of a text, which mixed texts don't have."""
  if needs.mixes:
    raise ValueError("it does not support methods that mix texts")


def one_classifier(needs: Needs) -> None:
  """For wrappers that give each text one distribution over the classes.

  Several voters would be made to agree, and a virtual class would be missing from it.
  """
  if voters(needs) or needs.virtual_classes:
    raise ValueError(
      "it does not support methods with several voters or virtual classes"
    )


def votes_of_weak_view_only(needs: Needs) -> None:
  """For wrappers that change the targets, or the logits they are computed from.

  If another view votes as well (MixMatch), even in the pass that trains
  (SequenceMatch), half of the votes would stay as they are, or change in the wrong
  direction. If targets are relative to predictions on labelled texts (AdaMatch), one
  of the two would change without the other.
  """
  if needs.relative:
    raise ValueError(
      "it does not support methods whose targets depend on predictions on labelled "
      "texts"
    )
  if needs.votes != ("weak",):
    raise ValueError(
      f"it does not support methods with targets from the {needs.votes[-1]} view"
    )


def no_labelled_targets(needs: Needs) -> None:
  """For wrappers that change the loss of unlabelled texts.

  DeFixMatch subtracts the same loss on labelled texts, which would stay as it is.
  """
  if "strong" in needs.labelled_views:
    raise ValueError(
      "it does not support methods that compute targets for labelled texts as well"
    )


def hard_targets(needs: Needs) -> None:
  """For wrappers that shift the trained logits relative to those of the targets.

  If the target is a predicted distribution, the strong view learns to predict that
  distribution plus the shift, and so moves on at each visit without end.
  """
  if needs.soft:
    raise ValueError("it does not support methods whose targets are distributions")
