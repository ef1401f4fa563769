"""What the training code meant when its weights were last known to be right.

`python -m milib.study.identity` writes it; `identity.check_training` compares.
"""

TRAINING = "a844c2bffd82366b"
