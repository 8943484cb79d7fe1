"""What there is to merge: a base model, fine-tuned models, images and heads, described by a ``suite.yaml``."""

from merging.suites.suite import Suite, Task, builtin_suites, load_suite

__all__ = ["Suite", "Task", "builtin_suites", "load_suite"]
