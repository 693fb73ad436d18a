"""Checks that a wrapper supports a method, from the method's `Needs`."""

from ssljax.method import Needs


def refuse(needs: Needs, *kinds: str) -> None:
  """Raises an error for a method of one of these kinds.

  * mixing: the wrapper uses the label of a text, but mixed texts have no single label.
  * virtual_classes, several_classifiers: the wrapper gives each text one distribution
    over the C classes. All voters or networks would then agree, and a virtual class
    would get no probability.
  * labelled_targets: DeFixMatch subtracts the unlabelled loss of the labelled texts.
    The wrapper would change the loss of unlabelled texts, but not the subtracted loss.
  * other_votes: the wrapper changes the targets, or the logits from which targets are
    computed. In AdaMatch and Dash, targets depend on predictions for labelled texts,
    and the wrapper would not change these predictions. MixMatch also computes targets
    from another view, and SequenceMatch does so in the pass that trains. The wrapper
    would not change these targets, or would change them in the wrong direction.
  * soft_targets: the wrapper shifts the trained logits relative to the targets' logits.
    If the target is a predicted distribution, the strong view would learn it plus the
    shift, so predictions would move by the shift at each visit.

  Raises:
    ValueError: its message completes "WRAPPER can't wrap METHOD: …".
  """
  kinds_of_heads = {head.kind for head in needs.heads.values()}
  several = needs.virtual_classes or kinds_of_heads & {"classifier", "network"}
  control = "strong" in needs.labelled_views
  view = f"the {needs.votes[-1]}" if needs.votes else "no"
  checks = (
    ("mixing", needs.mixes, "that mix texts"),
    ("virtual_classes", needs.virtual_classes, "with virtual classes"),
    (
      "several_classifiers",
      several,
      "with several voters or networks, or virtual classes",
    ),
    ("labelled_targets", control, "that compute targets for labelled texts as well"),
    (
      "other_votes",
      needs.relative,
      "whose targets depend on predictions for labelled texts",
    ),
    ("other_votes", needs.votes != ("weak",), f"with targets from {view} view"),
    ("soft_targets", needs.soft, "whose targets are distributions"),
  )
  for kind, applies, description in checks:
    if applies and kind in kinds:
      raise ValueError(f"it does not support methods {description}")
