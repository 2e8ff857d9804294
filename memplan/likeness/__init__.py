"""What a profile tells of the step that ran: its layout, recipe and chip, so that a plan like it can be made."""

from memplan.likeness.like_profile import Likeness, like_profile

__all__ = ["Likeness", "like_profile"]
