"""Checks that a wrapper supports a method, from the method's `Needs`."""

from ssljax.method import Needs


def refuse(needs: Needs, *kinds: str) -> None:
  """Refuses methods of these kinds.

  * mixing: a wrapper may use a text's label, and mixed texts have no single label.
  * virtual_classes, several_classifiers: a wrapper that gives each text one
    distribution over the C classes would make all voters agree, and would give a
    virtual class no probability.
  * labelled_targets: DeFixMatch subtracts the unlabelled loss on labelled texts. A
    wrapper that changes the unlabelled loss would not change what is subtracted.
  * other_votes: a wrapper may change the targets, or the logits from which targets are
    computed. If targets are relative to predictions on labelled texts (AdaMatch), the
    targets would change and these predictions would not. If another view votes as well
    (MixMatch), even in the pass that trains (SequenceMatch), the votes of that view
    would not change, or change in the wrong direction.
  * soft_targets: a wrapper may shift the trained logits relative to the targets'
    logits. The strong view would learn to predict a distribution plus the shift, and
    the distribution would move by the shift at each visit.

  Raises:
    ValueError: completes "WRAPPER can't wrap METHOD: …".
  """
  voters = any(head.kind == "classifier" for head in needs.heads.values())
  several = voters or needs.virtual_classes
  control = "strong" in needs.labelled_views
  view = f"the {needs.votes[-1]}" if needs.votes else "no"
  checks = (
    ("mixing", needs.mixes, "that mix texts"),
    ("virtual_classes", needs.virtual_classes, "with virtual classes"),
    ("several_classifiers", several, "with several voters or virtual classes"),
    ("labelled_targets", control, "that compute targets for labelled texts as well"),
    ("other_votes", needs.relative, "whose targets depend on labelled predictions"),
    ("other_votes", needs.votes != ("weak",), f"with targets from {view} view"),
    ("soft_targets", needs.soft, "whose targets are distributions"),
  )
  for kind, applies, description in checks:
    if applies and kind in kinds:
      raise ValueError(f"it does not support methods {description}")
